"""How a variant compares with its baseline over all metrics, where none is the main one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.comparison.result import MAIN, Comparison, Row
from harness.core.text import label, number_of
from harness.report.tables.columns import Column, columns, table

_MOST = 3
"""How many variants are told of; the tables have all of them."""
_WORDS = {"better": "better on {}", "worse": "worse on {}",
          "no difference shown": "without a shown difference on {}",
          "all alike": "like all others on {}",
          "same measurement": "the same measurement on {}",
          "incomparable": "not comparable on {}"}  # fmt: skip


def over_metrics(comparison: Comparison, headline: Column) -> list[str]:
    """A paragraph on all metrics, if there are several of what was learnt and nothing says which
    of them matters most: a suite's metrics by their names, an import's never."""
    rows = table(comparison)
    judged = {(row.metric, row.evaluation) for row in rows.values() if row.verdict in _WORDS}
    told = [column for column in columns(comparison) if column.quality and column.key in judged]
    imported = any(variant.imported for variant in comparison.variants)
    if len(told) < 2 or (headline.metric in MAIN and not imported):
        return []
    counts = {
        variant.group: _verdicts(rows, variant.group, told)
        for variant in comparison.variants
        if variant.has_result and not comparison.is_baseline(variant.group)
    }
    order = sorted((group for group in counts if counts[group]),
                   key=lambda group: counts[group]["worse"] - counts[group]["better"])  # fmt: skip
    if not order:
        return []
    parts = [_told(group, comparison.against(group), counts[group]) for group in order[:_MOST]]
    more = len(order) - _MOST
    parts += [f"{number_of(more, 'more variant stands', 'more variants stand')} in the tables"] * (
        more > 0
    )
    return [
        f"Over all {number_of(len(told), 'metric')}: {'; '.join(parts)}. Nothing says which metric"
        f" matters most; what follows is about {headline.name}."
    ]


def _verdicts(
    rows: Mapping[tuple[str, str, str], Row], group: str, told: Sequence[Column]
) -> Counter[str]:
    """How many metrics have which verdict; those that decide nothing are left out."""
    known = (rows.get((group, *column.key)) for column in told)
    return Counter(row.verdict for row in known if row is not None and row.verdict in _WORDS)


def _told(group: str, base: str, counts: Counter[str]) -> str:
    parts = [words.format(counts[verdict]) for verdict, words in _WORDS.items() if counts[verdict]]
    return f"against {label(base)}, {label(group)} is {', '.join(parts)}"
