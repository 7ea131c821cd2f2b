"""DPO through TRL's DPOTrainer, its reference the checkpoint it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer import dpo_trainer

from harness.objectives._pairs import Pair, pairs_of
from harness.objectives._shown import pairs_by_row, sequences
from harness.objectives._start import as_it_is, forget_reference, reference_model
from harness.objectives._trainer import arguments, run
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.dpo import Dpo


def train(objective: Dpo, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""
    pairs, counts = pairs_of(job.rows, objective.unusable)

    def make(given: dict[str, Any], callbacks: list[TrainerCallback]) -> DPOTrainer:
        return _trainer(objective, job, pairs, given, callbacks)

    try:
        result = run(make, objective, replace(job, rows=[{"prompt": p.prompt} for p in pairs]))
    finally:
        forget_reference(job.model)
    left_out = {f"left_out/{reason}": float(n) for reason, n in counts.items()}
    return replace(result, metrics={**result.metrics, "pairs": len(pairs), **left_out})


def batches(objective: Dpo, job: TrainJob) -> list[dict[str, Any]]:
    """Both answers of the job's pairs, as the trainer's collator makes them."""
    numbered = pairs_by_row(job.rows, objective.unusable)
    given = arguments(objective, job, steps=1)
    trainer = _trainer(objective, job, [pair for _, pair in numbered], given, [])
    return [
        shown
        for (row, _), prepared in zip(numbered, trainer.train_dataset, strict=True)
        for shown in sequences(trainer.data_collator([prepared]), row, ("chosen", "rejected"))
    ]


def _trainer(
    objective: Dpo,
    job: TrainJob,
    pairs: Sequence[Pair],
    given: dict[str, Any],
    callbacks: list[TrainerCallback],
) -> DPOTrainer:
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
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    with as_it_is(job.model, dpo_trainer):
        return DPOTrainer(
            model=job.model,
            ref_model=reference_model(job.model),
            args=DPOConfig(**{**own, **given}),
            train_dataset=Dataset.from_list(rows),
            processing_class=job.tokenizer,
            callbacks=callbacks,
        )
