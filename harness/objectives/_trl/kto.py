"""KTO through TRL's KTOTrainer; the reference is the checkpoint where training starts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import KTOConfig, KTOTrainer
from trl.trainer import kto_trainer
from trl.trainer.utils import use_adapter

from harness.core.errors import DataError
from harness.data.cells import content
from harness.data.render import TEMPLATE_COLUMNS
from harness.data.row import Row
from harness.objectives._trl.accumulation import WholeBatch
from harness.objectives._trl.shown import sequences
from harness.objectives._trl.start_as_reference import as_it_is, forget_reference, reference_model
from harness.objectives._trl.tokens import Tokenised, answered, unlearnt_places, with_room
from harness.objectives._trl.trainer import arguments, run
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.kto import Kto

_COLUMNS = ("prompt", "completion", "label")


def train(objective: Kto, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""
    rows = _rows(objective, job)

    def make(training_args: dict[str, Any], callbacks: list[TrainerCallback]) -> KTOTrainer:
        return _trainer(objective, job, rows, training_args, callbacks)

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
    """The job's answers, as the trainer's collator prepares them."""
    kept = [number for number, row in enumerate(job.rows) if _answered(row["completion"])]
    rows = [_kept(job.rows[number]) for number in kept]
    # The trainer adds another row's answer to each row, so it needs two rows at least.
    at_least_two = rows * 2 if len(rows) == 1 else rows
    trainer = _trainer(objective, job, at_least_two, arguments(objective, job, steps=1), [])
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
    training_args: dict[str, Any],
    callbacks: list[TrainerCallback],
) -> KTOTrainer:
    options = {
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
            args=KTOConfig(**{**options, **training_args}),
            train_dataset=Dataset.from_list(_tokens(objective, job, rows)),
            processing_class=job.tokenizer,
            callbacks=callbacks,
        )


class TokenisedTrainer(WholeBatch, Tokenised, KTOTrainer):
    """KTOTrainer on token ids, with KL and loss over the whole batch of a step.

    TRL computes both over each forward pass.
    """

    masks = {"completion_mask": ("completion",), "KL_completion_mask": ("KL_completion",)}
    _kl: torch.Tensor | None = None
    _left: list[float]

    def counted(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """The number of rows (`rows`)."""
        return {"rows": len(inputs["label"])}

    def _prepare_dataset(self, dataset: Any, tokenizer: Any, args: KTOConfig, *_: Any) -> Any:
        """Add to each row the answer of another row, whose likelihood estimates the divergence.

        As in TRL, the answers of each step's batch are shifted by one row.
        """
        if not self.calculate_KL:
            return dataset
        size = args.per_device_train_batch_size * args.gradient_accumulation_steps
        for column in ("completion_ids", "completion_unlearnt"):
            answers = list(dataset[column])
            parts = [answers[i : i + size] for i in range(0, len(answers), size)]
            moved = [answer for part in parts for answer in (part[-1], *part[:-1])]
            dataset = dataset.add_column(f"KL_{column}", moved)
        return dataset

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Collect the forward passes of a step, and compute the divergence over all of them."""
        samples, items = super().get_batch_samples(*args, **kwargs)
        self._kl = self._divergence(samples) if self.calculate_KL and len(samples) > 1 else None
        return samples, items

    @torch.no_grad()
    def _divergence(self, samples: Sequence[Any]) -> torch.Tensor:
        differences = []
        with self.compute_loss_context_manager():
            for inputs in samples:
                batch = self._prepare_inputs(inputs)
                policy = super()._compute_kl_logps(self.model, batch)
                differences.append(policy - self._reference_kl(batch))
        return torch.cat(differences).mean()

    def _reference_kl(self, batch: Any) -> Any:
        if self.precompute_ref_logps:
            return batch["ref_KL_logps"]
        if self.ref_model is not None:
            return super()._compute_kl_logps(self.ref_model, batch)
        policy = self.accelerator.unwrap_model(self.model)
        with use_adapter(policy, adapter_name="ref" if "ref" in policy.peft_config else None):
            return super()._compute_kl_logps(self.model, batch)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, weighted for the whole batch of a step."""
        self._left = [] if self._kl is None else [0.0, float(self._kl)]
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _compute_kl_logps(self, model: Any, batch: Any) -> Any:
        """Log-probabilities for TRL's estimate, the mean of policy minus reference.

        TRL calls it for the policy and then for the reference. In training with several passes they
        are constants with the divergence of the whole batch as their difference.
        """
        if not self._left or not self.model.training:
            return super()._compute_kl_logps(model, batch)
        if self.precompute_ref_logps:
            batch["ref_KL_logps"] = torch.zeros_like(batch["ref_KL_logps"])
        rows = len(batch["label"])
        return torch.full((rows,), self._left.pop(), device=batch["label"].device)


def _tokens(objective: Kto, job: TrainJob, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """prompt_ids, completion_ids, completion_unlearnt (places) and label of each row."""
    prepared = []
    for row in rows:
        encoded = answered(job.tokenizer, row, row["completion"])
        ids = {"prompt_ids": encoded.ids[: encoded.prompt], "completion_ids": encoded.answer}
        prepared.append(
            {**ids, "completion_unlearnt": unlearnt_places(encoded), "label": row["label"]}
        )
    return with_room(prepared, objective.max_length)


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
    return {n: row[n] for n in (*_COLUMNS, *TEMPLATE_COLUMNS) if n in row}


def _answered(completion: Any) -> bool:
    return bool(content(completion).strip())
