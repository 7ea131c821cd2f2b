"""ORPO through TRL's ORPOTrainer."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback

with warnings.catch_warnings():  # "may change without notice": the version is pinned
    warnings.simplefilter("ignore")
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from harness.objectives._pairs import pairs_of
from harness.objectives._trainer import run
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.orpo import Orpo


def train(objective: Orpo, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""
    pairs, counts = pairs_of(job.rows, objective.unusable)
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    own = {
        "beta": objective.beta,
        "max_length": objective.max_length,
        "max_completion_length": None,
        "disable_dropout": objective.disable_dropout,
        "generate_during_eval": False,
        "remove_unused_columns": False,
        "dataset_num_proc": None,
    }

    def make(given: dict[str, Any], callbacks: list[TrainerCallback]) -> ORPOTrainer:
        return CountingTrainer(
            model=job.model,
            args=ORPOConfig(**{**own, **given}),
            train_dataset=Dataset.from_list(rows),
            processing_class=job.tokenizer,
            callbacks=callbacks,
        )

    result = run(make, objective, replace(job, rows=list(rows)))
    left_out = {f"left_out/{reason}": float(n) for reason, n in counts.items()}
    return replace(result, metrics={**result.metrics, "pairs": len(pairs), **left_out})


class CountingTrainer(ORPOTrainer):
    """ORPOTrainer counts no tokens, which costs and budgets are told in, and takes a soft prompt's
    logits for a row's."""

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> Any:
        """TRL's, on the logits of the rows' own tokens."""

        def own(ids: Any, **options: Any) -> Any:
            outputs = model(ids, **options)
            outputs.logits = outputs.logits[:, -ids.shape[1] :]
            return outputs

        return super().concatenated_forward(own, batch)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, unchanged."""
        if self.model.training:
            masks = (inputs["chosen_attention_mask"], inputs["rejected_attention_mask"])
            self.state.num_input_tokens_seen += sum(int(mask.sum()) for mask in masks)
        return super().compute_loss(model, inputs, *args, **kwargs)
