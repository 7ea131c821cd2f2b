"""Supervised fine-tuning on TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, pack_dataset

from harness.core.errors import DataError
from harness.data.render import encoded, layout_of
from harness.data.row import Row
from harness.data.steps import Schedule
from harness.objectives._trl.head import IGNORED
from harness.objectives._trl.loss import LabelledTrainer
from harness.objectives._trl.packed import apart, leaking
from harness.objectives._trl.rehearsal import Rehearsal
from harness.objectives._trl.tokens import labelled
from harness.objectives._trl.trainer import arguments, run
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.sft import Sft


def train(objective: Sft, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""

    checks: list[dict[str, str]] = []
    rows = _table(objective, job, job.rows)

    def make(training_args: dict[str, Any], callbacks: list[TrainerCallback]) -> LabelledTrainer:
        trainer: LabelledTrainer = _trainer(objective, job, rows, training_args, callbacks)
        # `wrapped` packing has no seq_lengths: it is one stream of rows, cut at max_length.
        if "seq_lengths" in trainer.train_dataset.column_names:
            checks.append(_packed(trainer))
        return trainer

    result = run(make, objective, job, sequences=len(rows))
    packed = {"sequences": len(rows)} if objective.packing else {}
    return replace(result, metrics={**result.metrics, **packed}, checks=tuple(checks))


def _packed(trainer: LabelledTrainer) -> dict[str, str]:
    """Test that packed documents do not see one another; returns an entry for the audit.

    Raises:
        StageFailed: they would see one another.
    """
    packed = trainer.train_dataset.select(range(min(8, len(trainer.train_dataset))))
    documents = [
        row["input_ids"][end - length : end]
        for row in packed
        for length, end in zip(row["seq_lengths"], accumulate(row["seq_lengths"]), strict=True)
    ]
    check = apart(trainer.model, trainer.data_collator, documents, limit=trainer.args.max_length)
    if check["status"] == "failed":
        raise leaking(check, "sft")
    return check


def batches(objective: Sft, job: TrainJob) -> list[dict[str, list[int]]]:
    """The job's rows (or packed rows) one by one, as the trainer's collator prepares them."""
    rows = _table(objective, job, job.rows)
    trainer = _trainer(objective, job, rows, arguments(objective, job, steps=1), [])
    wanted = ("input_ids", "labels", "seq_lengths")
    prepared = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([{name: row[name] for name in wanted if name in row}])
        shown = ("input_ids", "labels", "position_ids")
        prepared.append({name: batch[name][0].tolist() for name in shown if name in batch})
    return prepared


def schedule(objective: Sft, job: TrainJob) -> Schedule:
    """The steps that `train` would take on the job's rows; the job's model is not used up."""
    rows = _table(objective, job, job.rows)
    steps = objective.steps(len(rows))
    planned = {**arguments(objective, job, steps), "logging_strategy": "no"}
    rehearsal: Rehearsal = _trainer(objective, job, rows, planned, [], Rehearsal)
    return rehearsal.schedule(objective)


def _table(objective: Sft, job: TrainJob, rows: Sequence[Row]) -> Dataset:
    """input_ids and labels of each row (and seq_lengths of packed rows), cut or packed to
    max_length as TRL does it. Sequences without a token in the loss are left out.

    Raises:
        DataError: no sequence is left.
    """
    alone = objective.in_loss(layout_of(list(rows[0])) or "text")
    encoded_rows = [labelled(encoded(job.tokenizer, row), answers_only=alone) for row in rows]
    limit, asked = objective.max_length, objective.args
    table = Dataset.from_list(encoded_rows)
    if objective.packing:
        table = table.shuffle(seed=job.seed) if asked.get("shuffle_dataset") else table
        table = pack_dataset(table, limit, objective.packing_strategy)
    else:
        part = objective.cut()
        table = Dataset.from_list(
            [{n: ids[part] for n, ids in row.items()} for row in encoded_rows]
        )
    table = table.shuffle(seed=job.seed) if asked.get("shuffle_dataset") else table
    learnt = [i for i, labels in enumerate(table["labels"]) if {*labels[1:]} - {IGNORED}]
    if not learnt:
        raise DataError("no row has a token in the loss", fix="raise max_length")
    return table if len(learnt) == len(table) else table.select(learnt)


def _trainer(
    objective: Sft,
    job: TrainJob,
    rows: Dataset,
    training_args: dict[str, Any],
    callbacks: list[TrainerCallback],
    kind: type[LabelledTrainer] | None = None,
) -> Any:
    options = {
        "max_length": objective.max_length,
        "packing": objective.packing,
        "packing_strategy": objective.packing_strategy,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        # The labels say what is in the loss.
        "completion_only_loss": False,
        "assistant_only_loss": False,
        "loss_type": "nll",
        "padding_free": False,
        "shuffle_dataset": False,
        "activation_offloading": False,
        "dataset_num_proc": None,
    }
    return (kind or LabelledTrainer)(
        token_metrics=objective.token_metrics,
        model=job.model,
        args=SFTConfig(**{**options, **training_args}),
        train_dataset=rows,
        eval_dataset=_table(objective, job, job.validation) if job.validation else None,
        processing_class=job.tokenizer,
        callbacks=callbacks,
    )
