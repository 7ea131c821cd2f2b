"""Forest plots: one line for each variant's difference from the baseline, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.comparison.result import Comparison, Row
from harness.core.text import label
from harness.report.tables.columns import MARKS, Column, columns, difference, table
from harness.report.tables.sheets import head

MOST = 40
"""How many lines a plot has; of more variants it shows the best and the worst."""
_METRICS = 6


@dataclass(frozen=True)
class Bar:
    """One difference.

    Attributes:
        at, low, high: the value and its interval, in percent of the plot's width; low and high are
            None if there is no interval.
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
    """The differences in one metric.

    Attributes:
        worse, better: the words at the left and at the right of zero.
        zero: the place of no difference, in percent of the plot's width.
        left_out: how many variants in the middle are not shown.
    """

    title: str
    worse: str
    better: str
    zero: float
    bars: tuple[Bar, ...]
    left_out: int


def forests(comparison: Comparison) -> list[Forest]:
    """Forest plots of the headline metric on each evaluation, and of the metrics of forgetting."""
    metrics = columns(comparison)
    wanted = [c for c in metrics if c.metric == metrics[0].metric or not c.quality][:_METRICS]
    plots = (_forest(comparison, column) for column in wanted)
    return [forest for forest in plots if forest is not None]


def ordered(comparison: Comparison, column: Column) -> tuple[list[Row], int]:
    """The rows with a difference, the best first, and how many in the middle were left out."""
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
            estimate = (row.difference.value, row.difference.low, row.difference.high)
            ends += [end for end in estimate if end is not None and math.isfinite(end)]
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
