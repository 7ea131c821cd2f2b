"""Counts how many of its rows a stage used, left out (by reason) or cut.

The progress lines of a run, `harness plan` and the report all take these numbers from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core.text import number_of
from harness.store.kind import kind_of
from harness.store.stage import Record, Stage

_ASKED_FOR = ("outside `rows`", "not `where`", "not `min_chars`", "not `max_chars`", "over `limit`")
"""Reasons for which the suite itself leaves rows out."""
_NAMED = 3


@dataclass(frozen=True)
class RowsUsed:
    """The rows of one split, and how one or several stages used them.

    Attributes:
        rows: the split's name, `entry/split`.
        purpose: `read`, `training`, `sampling` or `evaluation`.
        given: the number of rows that the stages received.
        used: the number of rows that they used.
        left_out: reason -> number of rows left out.
        cut: the number of used rows that were shortened.
        by: the stages' names.
    """

    rows: str
    purpose: str
    given: int
    used: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    cut: int = 0
    by: tuple[str, ...] = ()

    @property
    def lost(self) -> dict[str, int]:
        """Reason -> number of rows left out, without those that the suite's options leave out."""
        return {why: n for why, n in self.left_out.items() if n and why not in _ASKED_FOR}

    @property
    def name(self) -> str:
        """The names of the stages, or their number if there are many."""
        several = len(self.by) > _NAMED
        return number_of(len(self.by), "run") if several else ", ".join(self.by)

    def told(self) -> str:
        """A text such as `55 of 100 rows (45 over-long)`."""
        missing = [f"{count} {why}" for why, count in self.left_out.items() if count]
        missing += [f"{self.cut} cut to fit"] if self.cut else []
        return f"{self.used} of {number_of(self.given, 'row')}" + (
            f" ({', '.join(missing)})" if missing else ""
        )


def rows_used(record: Record, rows: str = "", by: str = "") -> RowsUsed | None:
    """How a finished stage used its rows; None if its kind never leaves out rows.

    Args:
        rows: the split's name.
        by: the stage's name; default: the record's label.
    """
    kind = kind_of(record.kind)
    counts = kind.row_counts(record.metrics) if record.ok else None
    if counts is None:
        return None
    total = counts.used + sum(counts.left_out.values())
    names = (by or record.label,)
    return RowsUsed(rows, kind.purpose, total, counts.used, counts.left_out, counts.cut, names)


def all_rows_used(stages: Iterable[Stage], records: Mapping[str, Record]) -> list[RowsUsed]:
    """How the rows of every split were used. Stages that used them in the same way are one
    entry."""
    uses: dict[tuple[Any, ...], RowsUsed] = {}
    for stage in stages:
        record = records.get(stage.key)  # it has no record if a trial before it failed
        rows = _split(stage)
        used = rows_used(record, rows, stage.label) if record is not None and rows else None
        if used is None:
            continue
        same = (rows, used.purpose, used.given, used.used, str(used.left_out), used.cut)
        known = uses.get(same, used)
        names = tuple(dict.fromkeys((*known.by, stage.label)))
        uses[same] = replace(used, by=names)
    return list(uses.values())


def _split(stage: Stage) -> str:
    """The name of the split whose rows a stage received."""
    if stage.kind == "data":
        return stage.label
    source = stage.inputs.get("train") or stage.inputs.get("data")
    return source.label if source is not None else ""


def sentences(uses: Iterable[RowsUsed]) -> Iterator[str]:
    """One sentence for each split of which rows could not be read, and for each training or
    sampling that left out or cut rows. Evaluations are not included: harness.data.lengths has
    sentences about them for all variants together."""
    for used in uses:
        if used.purpose == "read" and used.lost:
            reasons = ", ".join(f"{count} {why}" for why, count in used.lost.items())
            lost = sum(used.lost.values())
            yield f"{used.rows}: {lost} of {number_of(used.given, 'row')} left out ({reasons})"
        elif used.purpose in ("training", "sampling") and (used.lost or used.cut):
            yield f"{used.name}: {used.purpose} on {used.told()} of {used.rows}"
