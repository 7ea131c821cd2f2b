"""Preference rows as their trainers prepare them, for `harness data`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.core.errors import DataError
from harness.data.pairs import OnUnusable, Pair, pairs_of
from harness.data.render import asked_ids
from harness.objectives.base import Objective, Row, TrainJob


def pairs_by_row(rows: Sequence[Row], unusable: OnUnusable) -> list[tuple[int, Pair]]:
    """Every pair with the number of its row.

    Raises:
        DataError: `unusable` is `error`, and a row is.
    """
    found: list[tuple[int, Pair]] = []
    for number, row in enumerate(rows):
        try:
            pairs, _ = pairs_of([row], unusable)
        except DataError:
            if unusable == "error":
                raise
            continue  # its preview shows the others; the counts are the training's
        found += [(number, pair) for pair in pairs]
    return found


def prompts(objective: Objective, job: TrainJob) -> list[dict[str, Any]]:
    """The job's prompts as a policy is asked them, nothing of them in the loss; those that leave no
    room for an answer within `max_length` are left out. Training also leaves out those that the
    contexts of the policy and the reward model are too small for: no model is loaded here."""
    room = int(objective.max_length) - int(objective.max_new_tokens)  # type: ignore[attr-defined]
    found = ((number, asked_ids(job.tokenizer, row)) for number, row in enumerate(job.rows))
    return [
        {"row": number, "part": "prompt", "input_ids": ids, "labels": [-100] * len(ids)}
        for number, ids in found
        if 0 < len(ids) <= room
    ]


def sequences(
    collated: Mapping[str, Any], row: int, parts: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """One sequence a part, from a collated batch of (parts, tokens) tensors, padding left out."""
    columns = (collated[name].tolist() for name in ("input_ids", "attention_mask"))
    masks = collated["completion_mask"].tolist()
    for part, ids, there, learnt in zip(parts, *columns, masks, strict=True):
        kept = [(token, loss) for token, own, loss in zip(ids, there, learnt, strict=True) if own]
        yield {
            "row": row,
            "part": part,
            "input_ids": [token for token, _ in kept],
            "labels": [token if loss else -100 for token, loss in kept],
        }
