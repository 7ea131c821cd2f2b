"""Preference rows as their trainers prepare them, for `harness data`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.core.errors import DataError
from harness.data.pairs import OnUnusable, Pair, pairs_of
from harness.data.render import asked_ids
from harness.data.row import Row
from harness.objectives.base import Objective, TrainJob


def pairs_by_row(rows: Sequence[Row], unusable: OnUnusable) -> list[tuple[int, Pair]]:
    """All pairs with the numbers of their rows.

    Raises:
        DataError: `unusable` is `error`, and a row is unusable.
    """
    numbered: list[tuple[int, Pair]] = []
    for number, row in enumerate(rows):
        try:
            pairs, _ = pairs_of([row], unusable)
        except DataError:
            if unusable == "error":
                raise
            continue  # the preview leaves the row out; the training counts it
        numbered += [(number, pair) for pair in pairs]
    return numbered


def prompts(objective: Objective, job: TrainJob) -> list[dict[str, Any]]:
    """The job's prompts as the policy reads them, with no token in the loss.

    Prompts that leave no room for an answer within `max_length` are left out. Training also leaves
    out prompts that do not fit in the contexts of policy and reward model, which are not loaded
    here.
    """
    room = int(objective.max_length) - int(objective.max_new_tokens)  # type: ignore[attr-defined]
    encoded = ((number, asked_ids(job.tokenizer, row)) for number, row in enumerate(job.rows))
    return [
        {"row": number, "part": "prompt", "input_ids": ids, "labels": [-100] * len(ids)}
        for number, ids in encoded
        if 0 < len(ids) <= room
    ]


def sequences(
    collated: Mapping[str, Any], row: int, parts: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield one sequence without padding for each part of a collated batch.

    Args:
        collated: input_ids, attention_mask and completion_mask, each (parts, tokens).
        row: number of the row.
        parts: names of the parts.
    """
    columns = (collated[name].tolist() for name in ("input_ids", "attention_mask"))
    masks = collated["completion_mask"].tolist()
    for part, ids, there, learnt in zip(parts, *columns, masks, strict=True):
        kept = [
            (token, loss)
            for token, attended, loss in zip(ids, there, learnt, strict=True)
            if attended
        ]
        yield {
            "row": row,
            "part": part,
            "input_ids": [token for token, _ in kept],
            "labels": [token if loss else -100 for token, loss in kept],
        }
