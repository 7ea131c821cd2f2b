"""From tests to verdicts: Holm over a report's comparisons, and what is said of each."""

from __future__ import annotations

from dataclasses import replace

from harness.compare.result import ALL, Row
from harness.compare.statistics import holm

_ALPHA = 0.05


def adjusted(rows: list[Row]) -> list[Row]:
    """Holm over the whole-set rows, and apart from them over the slices; then the verdicts."""
    adjusted = list(rows)
    for whole in (True, False):
        family = [
            i for i, row in enumerate(rows) if (row.slice == ALL) is whole and row.p is not None
        ]
        for i, p in zip(family, holm([rows[i].p or 0.0 for i in family]), strict=True):
            adjusted[i] = replace(rows[i], p_holm=p)
    return [_judged(row) for row in adjusted]


def _judged(row: Row) -> Row:
    """A verdict needs the interval and the adjusted p to agree."""
    if row.difference is None:
        return row
    low, high = row.difference.low, row.difference.high
    clear = low is not None and high is not None and (low > 0 or high < 0)
    if not clear or row.p_holm is None or row.p_holm >= _ALPHA:
        return replace(row, verdict="no difference shown")
    up = row.difference.value > 0
    return replace(row, verdict="better" if up == row.higher_is_better else "worse")
