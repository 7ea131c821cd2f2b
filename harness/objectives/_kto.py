"""KTO through TRL's KTOTrainer, its reference the checkpoint it starts from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import KTOConfig, KTOTrainer
from trl.trainer import kto_trainer

from harness.data.render import GIVEN
from harness.errors import DataError
from harness.objectives._shown import sequences
from harness.objectives._start import as_it_is, forget_reference, reference_model
from harness.objectives._tokens import Tokenised, answered, with_room
from harness.objectives._trainer import arguments, run
from harness.objectives.base import Row, TrainJob, TrainResult
from harness.objectives.kto import Kto

_COLUMNS = ("prompt", "completion", "label")


def train(objective: Kto, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""
    rows = _rows(objective, job)

    def make(given: dict[str, Any], callbacks: list[TrainerCallback]) -> KTOTrainer:
        return _trainer(objective, job, rows, given, callbacks)

    try:
        result = run(make, objective, replace(job, rows=list(rows)))
    finally:
        forget_reference(job.model)
    wanted = sum(row["label"] for row in rows)
    counts = {
        "wanted": wanted,
        "unwanted": len(rows) - wanted,
        "left_out/an answer is empty": len(job.rows) - len(rows),
    }
    return replace(result, metrics={**result.metrics, **counts})


def batches(objective: Kto, job: TrainJob) -> list[dict[str, Any]]:
    """The job's answers, as the trainer's collator makes them."""
    kept = [number for number, row in enumerate(job.rows) if _answered(row["completion"])]
    rows = [_kept(job.rows[number]) for number in kept]
    # The trainer gives each row another's answer beside its own, and so wants two at least.
    made = rows * 2 if len(rows) == 1 else rows
    trainer = _trainer(objective, job, made, arguments(objective, job, steps=1), [])
    return [
        shown
        for number, row, prepared in zip(kept, rows, trainer.train_dataset, strict=False)
        for shown in sequences(
            trainer.data_collator([prepared]), number, ["wanted" if row["label"] else "unwanted"]
        )
    ]


def _trainer(
    objective: Kto,
    job: TrainJob,
    rows: Sequence[Row],
    given: dict[str, Any],
    callbacks: list[TrainerCallback],
) -> KTOTrainer:
    own = {
        "beta": objective.beta,
        "loss_type": objective.loss_type,
        "desirable_weight": objective.desirable_weight,
        "undesirable_weight": objective.undesirable_weight,
        "precompute_ref_log_probs": objective.precompute_ref_log_probs,
        "precompute_ref_batch_size": None,
        "max_length": objective.max_length,
        "pad_to_multiple_of": None,
        "sync_ref_model": False,
        "disable_dropout": objective.disable_dropout,
        "activation_offloading": False,
        "dataset_num_proc": None,
    }
    with as_it_is(job.model, kto_trainer):
        return TokenisedTrainer(
            model=job.model,
            ref_model=reference_model(job.model),
            args=KTOConfig(**{**own, **given}),
            train_dataset=Dataset.from_list(_tokens(objective, job, rows)),
            processing_class=job.tokenizer,
            callbacks=callbacks,
        )


class TokenisedTrainer(Tokenised, KTOTrainer):
    """KTOTrainer on token ids."""

    def _prepare_dataset(self, dataset: Any, tokenizer: Any, args: KTOConfig, *_: Any) -> Any:
        """Beside each row another's answer, whose likelihood estimates the divergence: in TRL's
        order, each batch's answers moved on by one."""
        if not self.calculate_KL:
            return dataset
        answers, size = list(dataset["completion_ids"]), args.per_device_train_batch_size
        parts = [answers[i : i + size] for i in range(0, len(answers), size)]
        moved = [answer for part in parts for answer in (part[-1], *part[:-1])]
        return dataset.add_column("KL_completion_ids", moved)


def _tokens(objective: Kto, job: TrainJob, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """prompt_ids, completion_ids and label of each row."""
    found = []
    for row in rows:
        own = answered(job.tokenizer, row, row["completion"])
        ids = {"prompt_ids": own.ids[: own.prompt], "completion_ids": own.answer}
        found.append({**ids, "label": row["label"]})
    return with_room(found, objective.max_length)


def _rows(objective: Kto, job: TrainJob) -> list[dict[str, Any]]:
    rows = [_kept(row) for row in job.rows if _answered(row["completion"])]
    empty = len(job.rows) - len(rows)
    if not rows or (empty and objective.unusable == "error"):
        raise DataError(
            f"{empty} of {len(job.rows)} rows have an empty answer",
            fix="mend the rows, or set unusable: drop",
        )
    if objective.shuffle:
        random.Random(f"kto {job.data_seed}").shuffle(rows)
    return rows


def _kept(row: Row) -> dict[str, Any]:
    return {n: row[n] for n in (*_COLUMNS, *GIVEN) if n in row}


def _answered(completion: Any) -> bool:
    text = completion if isinstance(completion, str) else completion[-1]["content"]
    return bool(text.strip())
