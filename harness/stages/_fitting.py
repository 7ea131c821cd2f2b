"""Selects the rows that a training can use: the model's template can write them, they are within
the length, and they have a token in the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import DataError
from harness.data.encode import Encoded
from harness.data.render import layout_of, require_template, turns_of
from harness.data.statistics import lengths as length_figures
from harness.data.usable import trained
from harness.objectives.base import Objective
from harness.stages._audit_loss import RowIndex
from harness.stages._room import Room


@dataclass(frozen=True)
class _Measured:
    """Rows that the template can write, with the tokens and the length of each."""

    rows: list[dict[str, Any]]
    tokens: list[Encoded]
    lengths: list[int]
    unusable: dict[str, int]
    """Reason -> the number of rows that cannot be trained on."""


def fitting(
    rows: list[dict[str, Any]], tokenizer: Any, objective: Objective, room: Room
) -> tuple[list[dict[str, Any]], dict[str, Any], RowIndex]:
    """Rows that the model's template writes as they are meant, within the length and with a token
    in the loss; what became of the others, and which tokens are which row's.

    Args:
        objective: with its lengths within `room` (harness.stages._room.within).

    Raises:
        DataError: no row is left, or one is too long and none may be.
    """
    require_template(tokenizer, rows)
    limit, policy = room.tokens, getattr(objective, "overlong", "drop")
    measured, index = _measured(rows, tokenizer), RowIndex(objective.cut())
    for row, tokens in zip(measured.rows, measured.tokens, strict=True):
        index.add(row, tokens.ids)
    over = {i for i, length in enumerate(measured.lengths) if limit and length > limit}
    left = [i for i in range(len(measured.rows)) if policy != "drop" or i not in over]
    taught = [i for i in left if _taught(measured.rows[i], measured.tokens[i], objective)]
    counts = {
        "given": len(rows),
        **({"unusable": measured.unusable} if measured.unusable else {}),
        "over_length": len(over),
        "overlong": policy,
        **({"context": limit, "max_length": room.asked} if room.asked else {}),
        **({"without_loss": len(left) - len(taught)} if len(taught) < len(left) else {}),
        "longest": max(measured.lengths),
        "mean_length": sum(measured.lengths) / len(measured.lengths),
        "tokens": length_figures(measured.lengths),
        "tokens_cut": sum(measured.lengths[i] - limit for i in over)
        if limit and policy == "truncate"
        else 0,
    }
    _require(measured.rows, over, left, taught, policy, room)
    kept = [measured.rows[i] for i in taught]
    return kept, {**counts, "trained_on": len(kept), "cut": len(over.intersection(taught))}, index


def _taught(row: Mapping[str, Any], tokens: Encoded, objective: Objective) -> bool:
    """Whether a token of the row, cut as it will be, is in the loss.

    The first token of a sequence follows nothing, and is in none. Where an objective has rows of
    its own reading (pairs, prompts), what is judged here is what cutting leaves of an answer.
    """
    left = range(len(tokens.ids))[objective.cut()]
    alone = objective.in_loss(str(layout_of(list(row))))
    if alone is None:
        return len(left) == len(tokens.ids) or any(i >= tokens.prompt for i in left[1:])
    return any(tokens.trained[i] or not alone for i in left[1:])


def _require(
    rows: Sequence[Mapping[str, Any]],
    over: Collection[int],
    left: Sequence[int],
    taught: Sequence[int],
    policy: str,
    room: Room,
) -> None:
    """Raise DataError if no row is left, or if a row is too long and the objective forbids it."""
    if over and policy == "error":
        raise DataError(
            f"{len(over)} of {len(rows)} rows are over {room.told} (first:"
            f" {rows[min(over)]['id']})",
            fix=f"{room.fix}, or set overlong: drop",
        )
    if not left:
        raise DataError(f"all {len(rows)} rows are over {room.told}", fix=room.fix)
    if not taught:
        cut = over and policy == "truncate"
        why = f"cut to {room.told}, they lose their answers" if cut else "their answers are empty"
        raise DataError(
            f"none of the {len(left)} rows has a token in the loss: {why}",
            fix=room.fix if cut else "mend the rows, or train on every token of them",
        )


def _measured(rows: Sequence[dict[str, Any]], tokenizer: Any) -> _Measured:
    """Rows that can be trained on, as tokens.

    Raises:
        DataError: none is left.
    """
    kept, lengths, unusable = list[dict[str, Any]](), list[int](), Counter[str]()
    tokens: list[Encoded] = []
    for row in rows:
        outcome = trained(tokenizer, row)
        if isinstance(outcome, str):
            unusable[outcome] += 1
            continue
        kept.append(row)
        tokens.append(outcome[0])
        lengths.append(outcome[1])
    if rows and not kept:
        reasons = "; ".join(f"{count} {reason}" for reason, count in unusable.items())
        raise DataError(
            f"no row is left to train on: {reasons}",
            fix="mend the rows, or set another `chat_template:` on the model",
        )
    return _Measured(kept, tokens, lengths, dict(unusable))


def usable(
    rows: Sequence[dict[str, Any]], tokenizer: Any
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows that can be trained on, or held against a model; and reason -> how many cannot.

    Raises:
        DataError: none is left.
    """
    if all(turns_of(row) is None for row in rows):
        return list(rows), {}  # text needs no template
    measured = _measured(rows, tokenizer)
    return measured.rows, measured.unusable
