"""DPO through TRL's DPOTrainer, its reference the checkpoint it starts from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer import dpo_trainer

from harness.objectives._pairs import pairs_of
from harness.objectives._start import as_it_is, forget_reference, reference_model
from harness.objectives._trainer import run
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.dpo import Dpo


def train(objective: Dpo, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""
    pairs, counts = pairs_of(job.rows, objective.unusable)
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    losses = objective.loss_type
    own = {
        "beta": objective.beta,
        "loss_type": [losses] if isinstance(losses, str) else list(losses),
        "loss_weights": objective.loss_weights,
        "label_smoothing": objective.label_smoothing,
        "f_divergence_type": objective.f_divergence_type,
        "f_alpha_divergence_coef": objective.f_alpha_divergence_coef,
        "discopop_tau": objective.discopop_tau,
        "ld_alpha": objective.ld_alpha,
        "use_weighting": objective.use_weighting,
        "precompute_ref_log_probs": objective.precompute_ref_log_probs,
        "precompute_ref_batch_size": None,
        "max_length": objective.max_length,
        "truncation_mode": "keep_start",
        "padding_free": False,
        "pad_to_multiple_of": None,
        "sync_ref_model": False,
        "disable_dropout": objective.disable_dropout,
        "activation_offloading": False,
        "dataset_num_proc": None,
    }

    def make(given: dict[str, Any], callbacks: list[TrainerCallback]) -> DPOTrainer:
        with as_it_is(job.model, dpo_trainer):
            return DPOTrainer(
                model=job.model,
                ref_model=reference_model(job.model),
                args=DPOConfig(**{**own, **given}),
                train_dataset=Dataset.from_list(rows),
                processing_class=job.tokenizer,
                callbacks=callbacks,
            )

    try:
        result = run(make, objective, replace(job, rows=list(rows)))
    finally:
        forget_reference(job.model)
    left_out = {f"left_out/{reason}": float(n) for reason, n in counts.items()}
    return replace(result, metrics={**result.metrics, "pairs": len(pairs), **left_out})
