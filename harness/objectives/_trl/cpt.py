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
from harness.objectives._trl.loss import LabelledTrainer
from harness.objectives._trl.packed import apart, leaking
from harness.objectives._trl.trainer import run
from harness.objectives.base import Row, TrainJob, TrainResult
from harness.objectives.cpt import Cpt

_IGNORED = -100


def train(objective: Cpt, job: TrainJob) -> TrainResult:
    """Train `job.model` in place."""
    own, documents = _documents(objective, job)
    objective, checks, notes = _packable(objective, job, documents)
    sequences = _sequences(objective, documents)
    config = {
        "max_length": objective.max_length,
        "packing": False,  # packed here, in rows: TRL would lay a whole batch out as one sequence
        "padding_free": False,
        "completion_only_loss": False,
        "loss_type": "nll",
        "shuffle_dataset": False,
        "activation_offloading": False,
        "dataset_num_proc": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }

    def make(given: dict[str, Any], callbacks: list[TrainerCallback]) -> PackedTrainer:
        return PackedTrainer(
            token_metrics=objective.token_metrics,
            model=job.model,
            args=SFTConfig(**{**config, **given}),
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
        "replay_share": (tokens - own) / tokens,
    }
    return replace(result, metrics={**result.metrics, **counts}, checks=checks, notes=notes)


def batches(objective: Cpt, job: TrainJob) -> list[dict[str, list[int]]]:
    """The job's sequences, one by one, as the trainer's collator makes them."""
    _, documents = _documents(objective, job)
    collate = Collator(_pad_id(job.tokenizer), isolated=_isolated(objective))
    found = []
    for sequence in _sequences(objective, documents):
        batch = collate([sequence])
        found.append({n: batch[n][0].tolist() for n in _SHOWN if n in batch})
    return found


_SHOWN = ("input_ids", "labels", "position_ids")


def _isolated(objective: Cpt) -> bool:
    return objective.packing is not False and objective.isolate_documents


def _packable(
    objective: Cpt, job: TrainJob, documents: list[list[int]]
) -> tuple[Cpt, tuple[dict[str, str], ...], tuple[str, ...]]:
    """The objective, unpacked where the model lets packed documents see one another and nobody
    asked for packing; what was found, for the audit; and what a reader must know.

    Raises:
        StageFailed: packing was asked for, and documents would see one another.
    """
    if not _isolated(objective):
        return objective, (), ()
    collate = Collator(_pad_id(job.tokenizer), isolated=True)
    rows = min(2, objective.per_device_train_batch_size)
    found = apart(job.model, collate, documents, rows, objective.max_length)
    if found["status"] != "failed":
        return objective, (found,), ()
    if objective.packing:
        raise leaking(found, "cpt")
    unpacked = {**found, "status": "skipped", "detail": f"not packed: {found['detail']}"}
    note = f"documents have a sequence each, and are not packed: {found['detail']}"
    return objective.model_copy(update={"packing": False}), (unpacked,), (note,)


def _pad_id(tokenizer: Any) -> int:
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _documents(objective: Cpt, job: TrainJob) -> tuple[int, list[list[int]]]:
    """Token ids of every document in the order they are packed, and the tokens not replayed."""
    documents = document_ids(job.tokenizer, job.rows)
    own = sum(len(ids) for ids in documents)
    if objective.replay is not None:
        general = document_ids(job.tokenizer, job.more_rows["replay"])
        documents += replayed(general, own, objective.replay.share, job.data_seed)
        random.Random(job.data_seed).shuffle(documents)
    return own, documents


def document_ids(tokenizer: Any, rows: Sequence[Row]) -> list[list[int]]:
    """Each row's tokens, the end-of-sequence token last.

    Raises:
        StageFailed: the tokenizer has no such token.
    """
    if tokenizer.eos_token_id is None:
        raise StageFailed(
            "tokenizer",
            "the tokenizer has no end-of-sequence token to set documents apart",
            fix="name one as `eos_token` in the model's tokenizer_config.json",
        )
    require_template(tokenizer, rows)
    found = []
    for row in rows:
        found.append(ended(tokenizer, encoded(tokenizer, row).ids))
    return found


def replayed(general: Sequence[list[int]], own: int, share: float, seed: int) -> list[list[int]]:
    """Documents drawn without replacement until their tokens are `share` of all.

    The last one is cut, so that the share is met to the token.

    Args:
        own: tokens of the documents that are not replayed.

    Raises:
        DataError: there is not that much general text.
    """
    wanted = round(own * share / (1 - share))
    there = sum(len(ids) for ids in general)
    if there < wanted:
        raise DataError(
            f"replay needs {wanted} tokens for a share of {share}, and its rows hold {there}",
            fix=f"give more rows, or lower the share to {there / (there + own):.3f}",
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
    """Rows of input_ids, labels and seq_lengths (each document's part of the row)."""
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
    """Pads packed sequences to one length, each document apart from the others.

    Isolated, documents are told apart by position_ids that start again at 0, and there is no
    attention mask: transformers then makes one that is block-diagonal (an all-ones mask would let
    documents see one another). A pad token is a document of its own, seen by nothing.
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
            own = torch.tensor(row["input_ids"])
            ids[i, : len(own)] = labels[i, : len(own)] = own
            mask[i, : len(own)] = 1
            starts = torch.cat([torch.arange(length) for length in row["seq_lengths"]])
            positions[i, : len(own)] = starts
        labels[positions == 0] = _IGNORED  # the first token of a document follows nothing
        found = {"input_ids": ids, "labels": labels, "tokens": mask.sum(1)}
        return {
            **found,
            **({"position_ids": positions} if self.isolated else {"attention_mask": mask}),
        }


class PackedTrainer(LabelledTrainer):
    """Counts the tokens of packed rows; TRL's count takes padding for tokens."""

    _seen = 0

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of a batch, as TRL computes it."""
        tokens = int(inputs.pop("tokens").sum())
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.model.training:
            self._seen += tokens
            self._metrics["train"]["num_tokens"] = [self._seen]
        return loss
