"""From tests to verdicts: Holm over a report's comparisons, and what is said of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.comparison.intervals import CONFIDENCE
from harness.comparison.result import ALL, Row

_ALPHA = 1 - CONFIDENCE


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm, 1979): the k-th smallest of m times m - k + 1, never below
    a smaller one's. statsmodels has the same figures, and collects Python's garbage at every call.
    """
    found, least = [0.0] * len(values), 0.0
    order = sorted(range(len(values)), key=values.__getitem__)
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(values) - place) * values[index]))
        found[index] = least
    return found


def adjusted(rows: list[Row]) -> list[Row]:
    """Holm over the whole-set rows, and apart from them over the slices; then the verdicts."""
    judged = list(rows)
    for whole in (True, False):
        family = [
            i for i, row in enumerate(rows) if (row.slice == ALL) is whole and row.p is not None
        ]
        for i, p in zip(family, holm([rows[i].p or 0.0 for i in family]), strict=True):
            judged[i] = _judged(replace(rows[i], p_holm=p), len(family))
    return [
        replace(row, verdict="no difference shown")
        if row.difference is not None and row.p is None
        else row
        for row in judged
    ]


def _judged(row: Row, family: int) -> Row:
    """By the adjusted p; where the p alone, and so the interval, says more, that is told."""
    if row.difference is None or row.p is None or row.p_holm is None:
        return row
    if row.p_holm < _ALPHA:
        up = row.difference.value > 0
        return replace(row, verdict="better" if up == row.higher_is_better else "worse")
    row = replace(row, verdict="no difference shown")
    if not row.shown_alone:
        return row
    return row.noted(
        f"p {row.p:.2g} by itself, {row.p_holm:.2g} after Holm's adjustment over {family}"
        " comparisons"
    )
