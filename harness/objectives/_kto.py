"""KTO through TRL's KTOTrainer, its reference the checkpoint it starts from."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import KTOConfig, KTOTrainer
from trl.trainer import kto_trainer

from harness.errors import DataError
from harness.objectives._start import as_it_is, forget_reference, reference_model
from harness.objectives._trainer import run
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.kto import Kto


def train(objective: Kto, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""
    rows = _rows(objective, job)
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

    def make(given: dict[str, Any], callbacks: list[TrainerCallback]) -> KTOTrainer:
        with as_it_is(job.model, kto_trainer):
            return KTOTrainer(
                model=job.model,
                ref_model=reference_model(job.model),
                args=KTOConfig(**{**own, **given}),
                train_dataset=Dataset.from_list(rows),
                processing_class=job.tokenizer,
                callbacks=callbacks,
            )

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


def _rows(objective: Kto, job: TrainJob) -> list[dict[str, Any]]:
    columns = ("prompt", "completion", "label")
    rows = [{n: row[n] for n in columns} for row in job.rows if _answered(row["completion"])]
    empty = len(job.rows) - len(rows)
    if not rows or (empty and objective.unusable == "error"):
        raise DataError(
            f"{empty} of {len(job.rows)} rows have an empty answer",
            fix="mend the rows, or set unusable: drop",
        )
    if objective.shuffle:
        random.Random(f"kto {job.data_seed}").shuffle(rows)
    return rows


def _answered(completion: Any) -> bool:
    text = completion if isinstance(completion, str) else completion[-1]["content"]
    return bool(text.strip())
