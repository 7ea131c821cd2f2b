"""Forest plots: each variant's difference from the baseline with its interval, a line apiece."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.comparison.result import Comparison, Row
from harness.core.text import label
from harness.report.tables.columns import MARKS, Column, columns, difference, table
from harness.report.tables.sheets import head

MOST = 40
"""Lines of one plot; of more variants the outermost are shown."""
_METRICS = 6


@dataclass(frozen=True)
class Bar:
    """One difference. Places are percentages of the plot's width.

    Attributes:
        low: None where the difference has no interval.
    """

    name: str
    text: str
    verdict: str
    mark: str
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Forest:
    """The differences in one metric; `zero` is where there is none."""

    title: str
    worse: str
    better: str
    zero: float
    bars: tuple[Bar, ...]
    left_out: int


def forests(comparison: Comparison) -> list[Forest]:
    """Plots of the headline metric, on each evaluation that has it, and of what is forgotten."""
    found = columns(comparison)
    wanted = [c for c in found if c.metric == found[0].metric or not c.quality][:_METRICS]
    made = (_forest(comparison, column) for column in wanted)
    return [forest for forest in made if forest is not None]


def ordered(comparison: Comparison, column: Column) -> tuple[list[Row], int]:
    """Rows with a difference, the best first, and how many of the middle were left out."""
    rows = [
        row
        for (_, *key), row in table(comparison).items()
        if tuple(key) == column.key and row.difference and math.isfinite(row.difference.value)
    ]
    rows.sort(key=lambda row: row.difference.value if row.difference else 0.0, reverse=column.up)
    if len(rows) <= MOST:
        return rows, 0
    half = MOST // 2
    return [*rows[:half], *rows[-half:]], len(rows) - MOST


def _forest(comparison: Comparison, column: Column) -> Forest | None:
    rows, left_out = ordered(comparison, column)
    ends = [0.0]
    for row in rows:
        if row.difference is not None:
            found = (row.difference.value, row.difference.low, row.difference.high)
            ends += [end for end in found if end is not None and math.isfinite(end)]
    low, high = min(ends), max(ends)
    if not rows or low == high:
        return None
    margin = 0.04 * (high - low)
    start, width = low - margin, high - low + 2 * margin

    def place(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return round(100 * (value - start) / width, 2)

    bars = tuple(
        Bar(
            label(row.group), difference(row), row.verdict, MARKS[row.verdict],
            place(row.difference.value) or 0.0, place(row.difference.low),
            place(row.difference.high),
        )
        for row in rows
        if row.difference is not None
    )  # fmt: skip
    words = ("worse", "better") if column.up else ("better", "worse")
    return Forest(head(column), *words, place(0.0) or 0.0, bars, left_out)
