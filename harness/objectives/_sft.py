"""Supervised fine-tuning on TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig

from harness.data.render import encoded, layout_of
from harness.objectives._loss import LabelledTrainer
from harness.objectives._packed import apart, leaking
from harness.objectives._tokens import labelled
from harness.objectives._trainer import arguments, run
from harness.objectives.base import Row, TrainJob, TrainResult
from harness.objectives.sft import Sft


def train(objective: Sft, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""

    checks: list[dict[str, str]] = []

    def make(given: dict[str, Any], callbacks: list[TrainerCallback]) -> LabelledTrainer:
        trainer = _trainer(objective, job, given, callbacks)
        # Told apart by their lengths; `wrapped` is one stream of rows, cut at the length.
        if "seq_lengths" in trainer.train_dataset.column_names:
            checks.append(_packed(trainer))
        return trainer

    return replace(run(make, objective, job), checks=tuple(checks))


def _packed(trainer: LabelledTrainer) -> dict[str, str]:
    """What the audit says of packed rows.

    Raises:
        StageFailed: they would see one another.
    """
    packed = trainer.train_dataset.select(range(min(8, len(trainer.train_dataset))))
    documents = [
        row["input_ids"][end - length : end]
        for row in packed
        for length, end in zip(row["seq_lengths"], accumulate(row["seq_lengths"]), strict=True)
    ]
    found = apart(trainer.model, trainer.data_collator, documents)
    if found["status"] == "failed":
        raise leaking(found, "sft")
    return found


def batches(objective: Sft, job: TrainJob) -> list[dict[str, list[int]]]:
    """The job's rows (packed ones together) one by one, as the trainer's collator makes them."""
    trainer = _trainer(objective, job, arguments(objective, job, steps=1), [])
    wanted = ("input_ids", "labels", "seq_lengths")
    found = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([{name: row[name] for name in wanted if name in row}])
        shown = ("input_ids", "labels", "position_ids")
        found.append({name: batch[name][0].tolist() for name in shown if name in batch})
    return found


def _trainer(
    objective: Sft, job: TrainJob, given: dict[str, Any], callbacks: list[TrainerCallback]
) -> LabelledTrainer:
    layout = layout_of(list(job.rows[0])) or "text"
    alone = objective.in_loss(layout)

    def table(rows: Sequence[Row]) -> Dataset | None:
        found = (encoded(job.tokenizer, row) for row in rows)
        own = [labelled(row, answers_only=alone) for row in found]
        return Dataset.from_list(own) if own else None

    own = {
        "max_length": objective.max_length,
        "packing": objective.packing,
        "packing_strategy": objective.packing_strategy,
        # The labels say what is in the loss; TRL cuts and packs what is tokens already.
        "completion_only_loss": False,
        "assistant_only_loss": False,
        "loss_type": "nll",
        "padding_free": False,
        "shuffle_dataset": False,
        "activation_offloading": False,
        "dataset_num_proc": None,
    }
    return LabelledTrainer(
        token_metrics=objective.token_metrics,
        model=job.model,
        args=SFTConfig(**{**own, **given}),
        train_dataset=table(job.rows),
        eval_dataset=table(job.validation),
        processing_class=job.tokenizer,
        callbacks=callbacks,
    )
