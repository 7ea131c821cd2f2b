"""Rows that a training can take: written by the model's template as they are meant, and within the
length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.data.render import require_template, turns_of
from harness.data.statistics import lengths as length_figures
from harness.data.usable import trained
from harness.errors import DataError
from harness.objectives.base import Objective
from harness.stages._audit_loss import RowIndex


def fitting(
    rows: list[dict[str, Any]], tokenizer: Any, objective: Objective
) -> tuple[list[dict[str, Any]], dict[str, Any], RowIndex]:
    """Rows that the model's template writes as they are meant, within the length; what became of
    the others, and which tokens are which row's."""
    require_template(tokenizer, rows)
    limit = int(getattr(objective, "max_length", 0)) or None
    policy = getattr(objective, "overlong", "drop")
    given, (rows, lengths, index, unusable) = len(rows), _measured(rows, tokenizer)
    over = [i for i, length in enumerate(lengths) if limit and length > limit]
    counts = {
        "given": given,
        **({"unusable": unusable} if unusable else {}),
        "over_length": len(over),
        "overlong": policy,
        "longest": max(lengths),
        "mean_length": sum(lengths) / len(lengths),
        "tokens": length_figures(lengths),
        "tokens_cut": sum(lengths[i] - limit for i in over)
        if limit and policy == "truncate"
        else 0,
    }
    if over and policy == "error":
        raise DataError(
            f"{len(over)} of {len(rows)} rows are over max_length {limit}"
            f" (first: {rows[over[0]]['id']})",
            fix="raise max_length, or set overlong: drop",
        )
    if policy == "drop":
        dropped = set(over)
        rows = [row for i, row in enumerate(rows) if i not in dropped]
    if not rows:
        raise DataError(
            f"all {counts['given']} rows are over max_length {limit}", fix="raise max_length"
        )
    return rows, {**counts, "trained_on": len(rows)}, index


def _measured(
    rows: Sequence[dict[str, Any]], tokenizer: Any
) -> tuple[list[dict[str, Any]], list[int], RowIndex, dict[str, int]]:
    """Rows that can be trained on, their lengths and tokens; and reason -> how many cannot.

    Raises:
        DataError: none is left.
    """
    kept, lengths, index, unusable = list[dict[str, Any]](), list[int](), RowIndex(), Counter[str]()
    for row in rows:
        found = trained(tokenizer, row)
        if isinstance(found, str):
            unusable[found] += 1
            continue
        ids, length = found
        index.add(row, ids)
        kept.append(row)
        lengths.append(length)
    if rows and not kept:
        told = "; ".join(f"{count} {reason}" for reason, count in unusable.items())
        raise DataError(
            f"no row is left to train on: {told}",
            fix="mend the rows, or set another `chat_template:` on the model",
        )
    return kept, lengths, index, dict(unusable)


def usable(
    rows: Sequence[dict[str, Any]], tokenizer: Any
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows that can be trained on, or held against a model; and reason -> how many cannot.

    Raises:
        DataError: none is left.
    """
    if all(turns_of(row) is None for row in rows):
        return list(rows), {}  # text needs no template
    kept, _, _, unusable = _measured(rows, tokenizer)
    return kept, unusable
