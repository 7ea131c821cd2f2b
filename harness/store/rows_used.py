"""What became of the rows that a stage was given: how many were used, left out and why, or cut.

The one source of these figures, for the lines of a run, for `harness plan` and for the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.store.stage import Record, Stage

_ASKED_FOR = ("outside `rows`", "not `where`", "not `min_chars`", "not `max_chars`", "over `limit`")
"""Reasons for which the suite itself leaves rows out."""
_PURPOSES = {"data": "read", "train": "training", "sample": "sampling", "generate": "evaluation",
             "score": "evaluation"}  # fmt: skip
_NAMED = 3


@dataclass(frozen=True)
class RowsUsed:
    """Rows of one split, and what one or several stages made of them.

    Attributes:
        rows: the split, `entry/split`.
        purpose: what they were for: `read`, `training`, `sampling`, `evaluation`.
        by: the stages' names.
        left_out: reason -> number of rows.
        cut: rows that are used without all of their tokens.
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
        """What was left out for another reason than that the suite asks for it."""
        return {why: n for why, n in self.left_out.items() if n and why not in _ASKED_FOR}

    @property
    def name(self) -> str:
        """Who used them, in a few words."""
        several = len(self.by) > _NAMED
        return f"{len(self.by)} runs" if several else ", ".join(self.by)

    def told(self) -> str:
        """`55 of 100 rows (45 over-long)`; the number alone where nothing is missing."""
        missing = [f"{count} {why}" for why, count in self.left_out.items() if count]
        missing += [f"{self.cut} cut to fit"] if self.cut else []
        return f"{self.used} of {self.given} rows" + (f" ({', '.join(missing)})" if missing else "")


def rows_used(record: Record, rows: str = "", by: str = "") -> RowsUsed | None:
    """What a finished stage made of its rows; None for a kind that leaves none out by itself."""
    found = _COUNTS.get(record.kind, lambda metrics: None)(record.metrics) if record.ok else None
    if found is None:
        return None
    used, left_out, cut = found
    given = used + sum(left_out.values())
    purpose = _PURPOSES[record.kind]
    return RowsUsed(rows, purpose, given, used, left_out, cut, (by or record.label,))


_Counts = tuple[int, dict[str, int], int]


def _data(metrics: Mapping[str, Any]) -> _Counts:
    used = metrics.get("gathered") or metrics.get("conversations") or metrics["rows"]
    return used, dict(metrics["dropped"]), 0


def _trained(metrics: Mapping[str, Any]) -> _Counts | None:
    counts = metrics.get("rows")
    if not isinstance(counts, Mapping) or "trained_on" not in counts:
        return None
    over, drops = counts["over_length"], counts["overlong"] == "drop"
    left_out = {
        **counts.get("unusable", {}),
        "over-long": over if drops else 0,
        "without a token in the loss": counts.get("without_loss", 0),
    }
    return counts["trained_on"], left_out, counts.get("cut", 0 if drops else over)


def _answered(metrics: Mapping[str, Any]) -> _Counts:
    why = "over-long, or refused by a chat template, for some variant"
    return metrics["rows"], {why: metrics.get("left_out", 0)}, metrics.get("cut_left", 0)


def _sampled(metrics: Mapping[str, Any]) -> _Counts:
    refused = "refused by the chat template"
    left_out = {
        "over-long": metrics.get("prompts_too_long", 0),
        refused: metrics.get("prompts_unusable", 0),
    }
    return metrics["rows"], left_out, 0


def _scored(metrics: Mapping[str, Any]) -> _Counts | None:
    return (metrics["rows"], dict(metrics["unusable"]), 0) if "unusable" in metrics else None


_COUNTS: Mapping[str, Any] = {
    "data": _data, "train": _trained, "generate": _answered, "sample": _sampled, "score": _scored,
}  # fmt: skip


def all_rows_used(stages: Iterable[Stage], records: Mapping[str, Record]) -> list[RowsUsed]:
    """Of every split, what was made of its rows; stages that made the same of them together."""
    found: dict[tuple[Any, ...], RowsUsed] = {}
    for stage in stages:
        record = records.get(stage.key)  # none where a trial before it failed
        rows = _split(stage)
        used = rows_used(record, rows, stage.label) if record is not None and rows else None
        if used is None:
            continue
        same = (rows, used.purpose, used.given, used.used, str(used.left_out), used.cut)
        known = found.get(same, used)
        names = tuple(dict.fromkeys((*known.by, stage.label)))
        found[same] = replace(used, by=names)
    return list(found.values())


def _split(stage: Stage) -> str:
    """The split whose rows a stage was given."""
    if stage.kind == "data":
        return stage.label
    source = stage.inputs.get("train") or stage.inputs.get("data")
    return source.label if source is not None else ""


def sentences(found: Iterable[RowsUsed]) -> Iterator[str]:
    """One for each split that lost rows as it was read, and each training that lost or cut some.
    Evaluations have sentences of their own, about all variants at once."""
    for used in found:
        if used.purpose == "read" and used.lost:
            told = ", ".join(f"{count} {why}" for why, count in used.lost.items())
            yield f"{used.rows}: {sum(used.lost.values())} of {used.given} rows left out ({told})"
        elif used.purpose in ("training", "sampling") and (used.lost or used.cut):
            yield f"{used.name}: {used.purpose} on {used.told()} of {used.rows}"
