"""Metrics that have one value for every variant and example, and so tell nothing apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.comparison.result import ALL, Row
from harness.core.text import number_of

_NAMED = 4


def notes(rows: Iterable[Row]) -> Iterator[str]:
    """A sentence on such metrics over all examples, if there are any."""
    alike = [row for row in rows if row.constant and row.slice == ALL]
    named = dict.fromkeys(
        f"{row.metric}{f' on {row.evaluation}' if row.evaluation else ''}"
        f" ({row.estimate.value:.4g})"
        for row in alike
    )
    if not named:
        return
    listed = ", ".join(list(named)[:_NAMED])
    more = len(named) - _NAMED
    listed += f" and {number_of(more, 'more metric')}" if more > 0 else ""
    yield (
        f"Every variant has the same value on every example: {listed}. That tells nothing apart,"
        " and is no evidence that the variants are equal."
    )
