"""DPO through TRL's DPOTrainer; the reference is the checkpoint where training starts.

The reference's log-probabilities come from a file that all trainings from one checkpoint share.
They are computed in other batches, with other padding, than TRL would use in the training steps. So
losses agree with those of a plain TRL script up to rounding. Without the file TRL computes the
log-probabilities, and losses are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer import dpo_trainer

from harness.core.errors import StageFailed
from harness.data.pairs import Pair, pairs_of
from harness.inference.batches import budget_batches
from harness.objectives._trl.accumulation import WholeBatch, of_passes
from harness.objectives._trl.logps import Logps, tokens_digest
from harness.objectives._trl.shown import pairs_by_row, sequences
from harness.objectives._trl.start_as_reference import (
    NoReference,
    as_it_is,
    forget_reference,
    reference_model,
)
from harness.objectives._trl.tokens import Tokenised, pair_ids, with_room
from harness.objectives._trl.trainer import arguments, build_trainer, run
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.dpo import Dpo

_BATCH_TOKENS = 8192
"""Padded tokens in one forward pass of the reference, which is less than in a training step."""
_FINE, _COARSE = 1e-4, 5e-2
"""Allowed difference of a log-probability between two batches, in nats per token: if everything is
float32, and if something has a shorter dtype."""

_SORTED = frozenset(["aot", "aot_unpaired"])
"""Losses that sort the pairs of a forward pass."""


def train(objective: Dpo, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""
    pairs, counts = pairs_of(job.rows, objective.unusable)
    shared = None if job.reference_file is None else Logps.load(job.reference_file)
    checks: list[dict[str, str]] = []

    def build(training_args: dict[str, Any], callbacks: list[TrainerCallback]) -> DPOTrainer:
        return _trainer(objective, job, pairs, training_args, callbacks, shared)

    def make(training_args: dict[str, Any], callbacks: list[TrainerCallback]) -> DPOTrainer:
        trainer: Any = build_trainer(build, training_args, callbacks, job.model)
        if shared is not None:
            checks.append(_is_start(trainer, job.dtype))
        return trainer  # type: ignore[no-any-return]

    try:
        result = run(make, objective, replace(job, rows=[{"prompt": p.prompt} for p in pairs]))
    finally:
        forget_reference(job.model)
    left_out = {f"left_out/{reason}": float(n) for reason, n in counts.items()}
    metrics = {**result.metrics, "pairs": len(pairs), **left_out}
    losses = (
        {objective.loss_type} if isinstance(objective.loss_type, str) else {*objective.loss_type}
    )
    notes = of_passes(objective, losses & _SORTED, "sorts the pairs of each forward pass")
    return replace(result, metrics=metrics, checks=tuple(checks), notes=notes)


def reference(objective: Dpo, job: TrainJob, path: Path) -> dict[str, Any]:
    """Write the log-probabilities that `job.model` gives both answers of all pairs in the rows.

    Args:
        path: the file to write, as `Logps.save` does.

    Returns:
        Counts for the stage's record: pairs, tokens, and pairs left out by reason.

    Raises:
        StageFailed: a log-probability is not finite.
    """
    pairs, counts = pairs_of(job.rows, objective.unusable)

    def build(training_args: dict[str, Any], callbacks: list[TrainerCallback]) -> DPOTrainer:
        return _trainer(objective, job, pairs, training_args, callbacks, _NONE_YET)

    try:
        trainer: Any = build_trainer(build, arguments(objective, job, steps=1), [], job.model)
        rows = list(trainer.train_dataset)
        limit = trainer.args.max_length
        asked, places = _answers(rows, together=objective.ld_alpha is not None)
        longest = [
            min(limit, len(r["prompt_ids"]) + max(len(r["chosen_ids"]), len(r["rejected_ids"])))
            for r in asked
        ]
        by_answer, tokens, done = torch.zeros(2, len(asked)), 0, 0
        for batch in budget_batches([2 * length for length in longest], _BATCH_TOKENS):
            inputs = trainer.data_collator([asked[i] for i in batch])
            tokens, done = tokens + int(inputs["attention_mask"].sum()), done + len(batch)
            by_answer[:, batch] = _logps(trainer, inputs)
            job.progress(done, len(asked), "pairs of answers read")
        logps = by_answer[tuple(torch.tensor(places).permute(2, 1, 0))]
    finally:
        forget_reference(job.model)
    bad = [rows[i]["row"] for i in range(len(rows)) if not logps[:, i].isfinite().all()]
    if bad:
        raise StageFailed(
            "reference",
            f"the starting checkpoint gives {len(bad)} pairs a log-probability that is no number"
            f" (first: row {bad[0]})",
        )
    digests = torch.tensor([list(tokens_digest(row, limit)) for row in rows], dtype=torch.uint8)
    Logps(tuple(r["row"] for r in rows), digests, *logps.contiguous()).save(path)
    left_out = {f"left_out/{reason}": n for reason, n in counts.items()}
    return {"pairs": len(rows), "tokens": tokens, **left_out}


def _answers(
    rows: Sequence[dict[str, Any]], *, together: bool
) -> tuple[list[dict[str, Any]], list[tuple[tuple[int, int], tuple[int, int]]]]:
    """Arrange the different answers to each prompt in rows of two, for the trainer's collator.

    A ranking of k answers has up to k (k - 1) / 2 pairs, so an answer is in up to k - 1 pairs; here
    each answer is read once.

    Args:
        rows: the pairs as token ids.
        together: keep the pairs as they are, since an answer's figure depends on the other answer.

    Returns:
        The new rows; and for each pair the places of its chosen and its rejected answer in them, as
        (side, row) with side 0 or 1.
    """
    if together:
        return list(rows), [((0, i), (1, i)) for i in range(len(rows))]
    answers: dict[tuple[int, ...], dict[Answer, tuple[int, int]]] = {}
    for row in rows:
        positions = answers.setdefault(tuple(row["prompt_ids"]), {})
        for side in ("chosen", "rejected"):
            positions.setdefault(_answer(row, side), (0, 0))
    asked: list[dict[str, Any]] = []
    for prompt, positions in answers.items():
        listed = list(positions)
        for one, other in zip(listed[::2], [*listed[1::2], listed[-1]], strict=False):
            positions[one], positions[other] = (0, len(asked)), (1, len(asked))
            sides = {"chosen_ids": one[0], "chosen_unlearnt": one[1],
                     "rejected_ids": other[0], "rejected_unlearnt": other[1]}  # fmt: skip
            asked.append({"prompt_ids": prompt, **sides})
    places = []
    for row in rows:
        positions = answers[tuple(row["prompt_ids"])]
        places.append((positions[_answer(row, "chosen")], positions[_answer(row, "rejected")]))
    return asked, places


Answer = tuple[tuple[int, ...], tuple[int, ...]]
"""An answer's tokens, and the places of those that are not learnt."""


def _answer(row: Mapping[str, Any], side: str) -> Answer:
    return tuple(row[f"{side}_ids"]), tuple(row.get(f"{side}_unlearnt", ()))


def batches(objective: Dpo, job: TrainJob) -> list[dict[str, Any]]:
    """Both answers of the job's pairs, as the trainer's collator prepares them."""
    numbered = pairs_by_row(job.rows, objective.unusable)
    training_args = arguments(objective, job, steps=1)
    trainer = _trainer(objective, job, [pair for _, pair in numbered], training_args, [])
    return [
        shown
        for (row, _), prepared in zip(numbered, trainer.train_dataset, strict=True)
        for shown in sequences(trainer.data_collator([prepared]), row, ("chosen", "rejected"))
    ]


def _trainer(
    objective: Dpo,
    job: TrainJob,
    pairs: Sequence[Pair],
    training_args: dict[str, Any],
    callbacks: list[TrainerCallback],
    shared: Logps | None = None,
) -> DPOTrainer:
    losses = objective.loss_type
    options = {
        "beta": objective.beta,
        "loss_type": [losses] if isinstance(losses, str) else list(losses),
        "loss_weights": objective.loss_weights,
        "label_smoothing": objective.label_smoothing,
        "f_divergence_type": objective.f_divergence_type,
        "f_alpha_divergence_coef": objective.f_alpha_divergence_coef,
        "discopop_tau": objective.discopop_tau,
        "ld_alpha": objective.ld_alpha,
        "use_weighting": objective.use_weighting,
        "precompute_ref_log_probs": shared is not None or objective.precompute_ref_log_probs,
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
    settings = DPOConfig(**{**options, **training_args})
    rows = pair_ids(job.tokenizer, pairs)
    if settings.truncation_mode == "keep_start":  # else their answers are kept
        rows = with_room(rows, objective.max_length)
    common = {
        "model": job.model,
        "args": settings,
        "train_dataset": Dataset.from_list(rows),
        "processing_class": job.tokenizer,
        "callbacks": callbacks,
    }
    with as_it_is(job.model, dpo_trainer):
        if shared is not None:
            return SharedReferenceTrainer(shared, **common)
        return TokenisedTrainer(ref_model=reference_model(job.model), **common)


_NONE_YET = Logps((), torch.zeros(0, 32, dtype=torch.uint8), torch.zeros(0), torch.zeros(0))


class TokenisedTrainer(WholeBatch, Tokenised, DPOTrainer):
    """DPOTrainer on token ids, with a loss over the whole batch of a step.

    This includes the likelihood of `loss_type: sft`, which TRL averages over the tokens of each
    forward pass.
    """

    masks = {"completion_mask": ("chosen", "rejected")}
    loss_weights: list[float]

    def counted(self, inputs: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of pairs (`rows`) and of the better answers' tokens (`tokens`)."""
        mask = inputs["completion_mask"]
        pairs = len(mask) // 2
        return {"rows": pairs, "tokens": int(mask[:pairs, 1:].sum())}

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, weighted for the whole batch of a step."""
        weight = self.share(inputs, "tokens") / self.share(inputs)
        weights = list(self.loss_weights)
        named = zip(self.loss_types, weights, strict=True)
        self.loss_weights = [w * weight if kind == "sft" else w for kind, w in named]
        try:
            return super().compute_loss(model, inputs, *args, **kwargs)
        finally:
            self.loss_weights = weights


class SharedReferenceTrainer(TokenisedTrainer):
    """DPOTrainer with precomputed log-probabilities of the reference, which is not loaded."""

    def __init__(self, shared: Logps, **options: Any) -> None:
        self._shared = shared
        super().__init__(ref_model=NoReference(), **options)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Add the shared log-probabilities; TRL's method would run a model here."""
        if self._shared is _NONE_YET:
            return dataset
        limit = self.args.max_length
        pairs = ((example["row"], tokens_digest(example, limit)) for example in dataset)
        chosen, rejected = self._shared.of(pairs)
        dataset = dataset.add_column("ref_chosen_logps", chosen)
        return dataset.add_column("ref_rejected_logps", rejected)


def _logps(trainer: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Log-probabilities of chosen and rejected answers by the trainer's model, in evaluation mode;
    (2, pairs) in nats."""
    model, training = trainer.model, trainer.model.training
    model.eval()
    logps = trainer.compute_ref_log_probs(model, trainer._prepare_inputs(inputs))
    model.train(training)
    return torch.stack([side.float().cpu() for side in logps])


def _is_start(trainer: Any, dtype: str) -> dict[str, str]:
    """Check before the first step that the file's log-probabilities are those of the model.

    Compares a few pairs, and returns an entry for the audit.

    Raises:
        StageFailed: they differ, so the file belongs to another checkpoint.
    """
    rows = [trainer.train_dataset[i] for i in range(min(4, len(trainer.train_dataset)))]
    inputs = trainer.data_collator(rows)
    wanted = torch.stack([inputs.pop(f"ref_{side}_logps") for side in ("chosen", "rejected")])
    tokens = inputs["completion_mask"].sum(1).view(2, -1)
    gap = float(((_logps(trainer, inputs) - wanted).abs() / tokens.clamp(min=1)).max())
    whole = all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
    allowed = _FINE if whole and dtype == "float32" else _COARSE
    detail = f"{len(rows)} pairs, largest difference {gap:.3g} nats a token, allowed {allowed:g}"
    if not gap <= allowed:
        raise StageFailed(
            "reference",
            f"the reference is not the starting checkpoint: {detail}",
            fix="run again with another --store, or set share_reference: false",
        )
    return {"check": "the reference is its start", "status": "passed", "detail": detail}
