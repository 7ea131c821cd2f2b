"""What a suite asks of its data and does not get: rows that a file does not have, filters that keep
next to nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from harness.core.text import number_of
from harness.planning.graph import Plan
from harness.store.kind import RowCounts, kind_of
from harness.store.stage import Record, Stage
from harness.suite.data import Split

_FILTERS = ("where", "min_chars", "max_chars")
_SMALL_SHARE, _FEW = 0.05, 10
"""A filter that keeps less than this share of the rows, or fewer rows, is told."""


def shortfalls(
    planned: Plan, counts: Callable[[Stage], RowCounts | None], *, only: str | None = None
) -> Iterator[str]:
    """A sentence for each split of which less is left than the suite seems to ask for.

    Args:
        counts: how many rows of a data stage were used, and left out by reason; None: not known.
        only: of this data entry alone.
    """
    for (entry, split), stage in planned.data.items():
        spec: Split | None = getattr(planned.suite.data[entry], split)
        if spec is not None and only in (None, entry) and (counted := counts(stage)):
            for told in _told(spec, counted):
                yield f"data.{entry}.{split}: {told}"


def counts_in(records: Mapping[str, Record]) -> Callable[[Stage], RowCounts | None]:
    """The counts of stages that have run, for `shortfalls`."""

    def counts(stage: Stage) -> RowCounts | None:
        record = records.get(stage.key)
        if record is None or not record.ok:
            return None
        return kind_of(stage.kind).row_counts(record.metrics)

    return counts


def _told(spec: Split, counted: RowCounts) -> Iterator[str]:
    left_out = counted.left_out
    given = counted.used + sum(left_out.values())
    inside = given - left_out.get("outside `rows`", 0)
    if spec.rows is not None and (end := spec.rows[1]) is not None and end > given:
        yield (
            f"`rows: [{spec.rows[0]}, {end}]` asks for {number_of(end - spec.rows[0], 'row')}, and"
            f" there are {given:,} in all: it takes {inside:,}"
        )
    kept = inside
    for name in _FILTERS:
        before, kept = kept, kept - left_out.get(f"not `{name}`", 0)
        if kept < before and (kept < _FEW or kept < _SMALL_SHARE * before):
            yield f"`{name}` keeps {kept:,} of {number_of(before, 'row')}"
    if spec.limit is not None and kept < spec.limit:
        yield f"`limit: {spec.limit}` is more than there are: it takes {number_of(kept, 'row')}"
