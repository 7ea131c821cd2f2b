"""Continued pre-training on packed documents, on TRL's SFTTrainer."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, pack_dataset

from harness.core.errors import DataError, StageFailed
from harness.data.encode import ended
from harness.data.render import encoded, require_template
from harness.data.row import Row
from harness.objectives._trl.loss import LabelledTrainer
from harness.objectives._trl.packed import apart, leaking
from harness.objectives._trl.trainer import run
from harness.objectives.base import TrainJob, TrainResult
from harness.objectives.cpt import Cpt

_IGNORED = -100


def train(objective: Cpt, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""
    new_tokens, documents = _documents(objective, job)
    objective, checks, notes = _packable(objective, job, documents)
    sequences = _sequences(objective, documents)
    config = {
        "max_length": objective.max_length,
        "packing": False,  # done here: TRL would turn a whole batch into one sequence
        "padding_free": False,
        "completion_only_loss": False,
        "loss_type": "nll",
        "shuffle_dataset": False,
        "activation_offloading": False,
        "dataset_num_proc": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }

    def make(training_args: dict[str, Any], callbacks: list[TrainerCallback]) -> PackedTrainer:
        return PackedTrainer(
            token_metrics=objective.token_metrics,
            model=job.model,
            args=SFTConfig(**{**config, **training_args}),
            train_dataset=sequences,
            processing_class=job.tokenizer,
            callbacks=callbacks,
            data_collator=Collator(_pad_id(job.tokenizer), isolated=_isolated(objective)),
        )

    result = run(make, objective, job, sequences=len(sequences))
    tokens = sum(len(ids) for ids in documents)
    packed = sum(sum(lengths) for lengths in sequences["seq_lengths"])
    counts = {
        "documents": len(documents),
        "sequences": len(sequences),
        "tokens_per_epoch": packed,
        "tokens_cut": tokens - packed,
        "filled": packed / (len(sequences) * objective.max_length),
        "replay_share": (tokens - new_tokens) / tokens,
    }
    return replace(result, metrics={**result.metrics, **counts}, checks=checks, notes=notes)


def batches(objective: Cpt, job: TrainJob) -> list[dict[str, list[int]]]:
    """The job's sequences, one by one, as the trainer's collator prepares them."""
    _, documents = _documents(objective, job)
    collate = Collator(_pad_id(job.tokenizer), isolated=_isolated(objective))
    prepared = []
    for sequence in _sequences(objective, documents):
        batch = collate([sequence])
        prepared.append({n: batch[n][0].tolist() for n in _SHOWN if n in batch})
    return prepared


_SHOWN = ("input_ids", "labels", "position_ids")


def _isolated(objective: Cpt) -> bool:
    return objective.packing is not False and objective.isolate_documents


def _packable(
    objective: Cpt, job: TrainJob, documents: list[list[int]]
) -> tuple[Cpt, tuple[dict[str, str], ...], tuple[str, ...]]:
    """Check that the model keeps packed documents apart; switch packing off if it does not.

    Returns:
        The objective, the entries for the audit, and notes for the reader.

    Raises:
        StageFailed: `packing: true` is set, and packed documents would see one another.
    """
    if not _isolated(objective):
        return objective, (), ()
    collate = Collator(_pad_id(job.tokenizer), isolated=True)
    rows = min(2, objective.per_device_train_batch_size)
    check = apart(job.model, collate, documents, rows, objective.max_length)
    if check["status"] != "failed":
        return objective, (check,), ()
    if objective.packing:
        raise leaking(check, "cpt")
    unpacked = {**check, "status": "skipped", "detail": f"not packed: {check['detail']}"}
    note = f"documents have a sequence each, and are not packed: {check['detail']}"
    return objective.model_copy(update={"packing": False}), (unpacked,), (note,)


def _pad_id(tokenizer: Any) -> int:
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _documents(objective: Cpt, job: TrainJob) -> tuple[int, list[list[int]]]:
    """The number of tokens that are not replayed, and the token ids of all documents in order."""
    documents = document_ids(job.tokenizer, job.rows)
    new_tokens = sum(len(ids) for ids in documents)
    if objective.replay is not None:
        general = document_ids(job.tokenizer, job.more_rows["replay"])
        documents += replayed(general, new_tokens, objective.replay.share, job.data_seed)
        random.Random(job.data_seed).shuffle(documents)
    return new_tokens, documents


def document_ids(tokenizer: Any, rows: Sequence[Row]) -> list[list[int]]:
    """Each row's token ids, with the end-of-sequence token last.

    Raises:
        StageFailed: the tokenizer has no such token.
    """
    if tokenizer.eos_token_id is None:
        raise StageFailed(
            "tokenizer",
            "the tokenizer has no end-of-sequence token to separate documents",
            fix="name one as `eos_token` in the model's tokenizer_config.json",
        )
    require_template(tokenizer, rows)
    documents = []
    for row in rows:
        documents.append(ended(tokenizer, encoded(tokenizer, row).ids))
    return documents


def replayed(
    general: Sequence[list[int]], new_tokens: int, share: float, seed: int
) -> list[list[int]]:
    """Draw documents without replacement until their tokens are `share` of all tokens.

    The last document is cut, so that the share is exact.

    Args:
        general: token ids of the documents to draw from.
        new_tokens: number of tokens in the documents that are not replayed.

    Raises:
        DataError: `general` has too few tokens.
    """
    wanted = round(new_tokens * share / (1 - share))
    there = sum(len(ids) for ids in general)
    if there < wanted:
        raise DataError(
            f"replay needs {wanted} tokens for a share of {share}, and its rows hold {there}",
            fix=f"give more rows, or lower the share to {there / (there + new_tokens):.3f}",
        )
    order = list(range(len(general)))
    random.Random(f"replay {seed}").shuffle(order)
    chosen: list[list[int]] = []
    for index in order:
        if wanted <= 0:
            break
        chosen.append(general[index][:wanted])
        wanted -= len(chosen[-1])
    return chosen


def _sequences(objective: Cpt, documents: list[list[int]]) -> Dataset:
    """Rows of input_ids, labels and seq_lengths (the length of each document in the row)."""
    limit = objective.max_length
    if objective.packing is False:
        parts = [ids[i : i + limit] for ids in documents for i in range(0, len(ids), limit)]
        if objective.overlong == "truncate":
            parts = [ids[:limit] for ids in documents]
        rows = Dataset.from_dict({"input_ids": parts})
        lengths = [[len(ids)] for ids in parts]
    elif objective.isolate_documents:
        strategy = "bfd" if objective.overlong == "truncate" else "bfd_split"
        rows = pack_dataset(Dataset.from_dict({"input_ids": documents}), limit, strategy)
        lengths = list(rows["seq_lengths"])
    else:
        stream = documents
        if objective.overlong == "truncate":
            stream = [ids[:limit] for ids in documents]
        rows = pack_dataset(Dataset.from_dict({"input_ids": stream}), limit, "wrapped")
        lengths = [[len(ids)] for ids in rows["input_ids"]]
    columns = {"input_ids": list(rows["input_ids"]), "seq_lengths": lengths}
    # A part of one token has nothing to predict.
    kept = [i for i, part in enumerate(lengths) if max(part) > 1]
    columns = {name: [values[i] for i in kept] for name, values in columns.items()}
    return Dataset.from_dict({**columns, "labels": columns["input_ids"]})


class Collator:
    """Pads packed sequences to one length.

    If `isolated`, position_ids start again at 0 for each document and there is no attention mask:
    transformers then creates a block-diagonal one (with a mask of ones, documents would see one
    another). Each pad token counts as a separate document, which no other token attends to.
    """

    def __init__(self, pad_id: int, *, isolated: bool) -> None:
        self.pad_id, self.isolated = pad_id, isolated

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        shape = (len(rows), longest)
        ids = torch.full(shape, self.pad_id)
        labels = torch.full(shape, _IGNORED)
        positions = torch.zeros(shape, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.long)
        for i, row in enumerate(rows):
            tokens = torch.tensor(row["input_ids"])
            ids[i, : len(tokens)] = labels[i, : len(tokens)] = tokens
            mask[i, : len(tokens)] = 1
            starts = torch.cat([torch.arange(length) for length in row["seq_lengths"]])
            positions[i, : len(tokens)] = starts
        labels[positions == 0] = _IGNORED  # nothing predicts the first token of a document
        batch = {"input_ids": ids, "labels": labels, "tokens": mask.sum(1)}
        return {
            **batch,
            **({"position_ids": positions} if self.isolated else {"attention_mask": mask}),
        }


class PackedTrainer(LabelledTrainer):
    """A trainer that counts the tokens of packed rows without padding; TRL would count padding."""

    _seen: torch.Tensor | int = 0

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of a batch, as TRL computes it."""
        tokens = inputs.pop("tokens").sum()
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.model.training:
            self._seen = self._seen + tokens
            self._metrics["train"]["num_tokens"] = [self._seen]
        return loss
