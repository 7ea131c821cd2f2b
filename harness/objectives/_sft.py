"""Supervised fine-tuning through TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from harness.data.render import layout_of
from harness.objectives._trainer import run
from harness.objectives.base import Row, TrainJob, TrainResult
from harness.objectives.sft import Sft

_COLUMNS = {
    "messages": ["messages"],
    "prompt_completion": ["prompt", "completion"],
    "text": ["text"],
}


def train(objective: Sft, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""
    layout = layout_of(list(job.rows[0])) or "text"
    columns = _COLUMNS[layout]

    def table(rows: Sequence[Row]) -> Dataset | None:
        return Dataset.from_list([{c: row[c] for c in columns} for row in rows]) if rows else None

    own = {
        "max_length": objective.max_length,
        "packing": objective.packing,
        "packing_strategy": objective.packing_strategy,
        "completion_only_loss": (
            objective.completion_only_loss if layout == "prompt_completion" else None
        ),
        "assistant_only_loss": objective.assistant_only_loss and layout == "messages",
        "loss_type": "nll",
        "padding_free": False,
        "shuffle_dataset": False,
        "activation_offloading": False,
        "dataset_num_proc": None,
    }

    def make(given: dict[str, Any], callbacks: list[TrainerCallback]) -> SFTTrainer:
        return SFTTrainer(
            model=job.model,
            args=SFTConfig(**{**own, **given}),
            train_dataset=table(job.rows),
            eval_dataset=table(job.validation),
            processing_class=job.tokenizer,
            callbacks=callbacks,
        )

    return run(make, objective, job)
