"""What a plan reads of data itself: the first rows of local files that no worker has read yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.core.errors import HarnessError
from harness.data.load import Rows
from harness.planning.checks import preflight
from harness.planning.planner import Plan
from harness.stages.data import Data, told_by
from harness.store.kind import RowCounts, kind_of
from harness.store.stage import Stage
from harness.store.store import Store

HEAD = 256 * 1024
"""Bytes of a file that every plan reads."""
WHOLE = 64 * 1024**2
"""Bytes of the largest file that a plan reads to its end, where its first rows cannot be used."""
_PACKED = 10
"""How many times larger a file compressed with gzip may be."""


class Looked(NamedTuple):
    """What looking into data files told.

    Attributes:
        warning: of a file that is too large to be sure; else empty.
        counts: how many rows a data stage will use, and leave out by reason; None: not known.
    """

    warning: str
    counts: Callable[[Stage], RowCounts | None]


def require_rows(planned: Plan, store: Store) -> Looked:
    """Refuse what a run would refuse once it has read the rows, as far as local files tell.

    Of a file, the first rows are read. If these cannot be used as the suite asks, later ones may be
    of help, so that the file is read to its end, and only then refused.

    Raises:
        DataError, SuiteError: as the run would, in the same words.
    """
    first = _Read(store, HEAD)
    try:
        _checked(planned, first)
    except HarnessError:
        if not first.cut:
            raise
    else:
        return Looked("", first.counts)
    whole = _Read(store, None)
    _checked(planned, whole)
    if not whole.unread:
        return Looked("", whole.counts)
    try:
        _checked(planned, _Read(store, HEAD, whole.rows))
    except HarnessError as error:
        told = f"the first rows cannot be used, and the others are not read here: {error}"
        return Looked(told, whole.counts)
    return Looked("", whole.counts)


def _checked(planned: Plan, read: _Read) -> None:
    for stage in planned.data.values():
        read.figures(stage)
    preflight(planned, read.figures)


class _Read:
    """The rows of data stages, each read once.

    Args:
        head: read only about so many of the first bytes of a file; None: read all.
        known: key of a stage -> its rows, where they were read to their end.

    Attributes:
        rows: key of a stage -> its rows, of those that were read.
        cut: whether a file was not read to its end.
        unread: whether a file was too large to be read.
    """

    def __init__(
        self, store: Store, head: int | None, known: Mapping[str, Rows] | None = None
    ) -> None:
        self.rows = dict(known or {})
        self.cut = self.unread = False
        self._store, self._head = store, head
        self._figures: dict[str, Mapping[str, Any] | None] = {}
        self._in_parts = set[str]()
        """Keys of stages of which only the first rows were read."""

    def figures(self, stage: Stage) -> Mapping[str, Any] | None:
        """The metrics of a data stage, from its record or from its rows; None: not known."""
        if stage.key not in self._figures:
            self._figures[stage.key] = self._told(stage)
        return self._figures[stage.key]

    def counts(self, stage: Stage) -> RowCounts | None:
        """How many rows a data stage will use, where all of them were read."""
        record = self._store.record(stage)
        if record is not None and record.ok:
            return kind_of(stage.kind).row_counts(record.metrics)
        rows = self.rows.get(stage.key)
        if rows is None or stage.key in self._in_parts:
            return None
        return RowCounts(rows.gathered or rows.conversations or len(rows.rows), rows.dropped)

    def _told(self, stage: Stage) -> Mapping[str, Any] | None:
        record = self._store.record(stage)
        if record is not None and record.ok:
            return record.metrics
        rows = self._of(stage)
        return None if rows is None else told_by(rows.rows, rows.layout)

    def _of(self, stage: Stage) -> Rows | None:
        if stage.key not in self.rows and (rows := self._read(stage)) is not None:
            self.rows[stage.key] = rows
        return self.rows.get(stage.key)

    def _read(self, stage: Stage) -> Rows | None:
        data = Data.of(stage) if stage.kind == "data" else None
        if data is None or (data.sha256 is None and not data.split.mixture):
            return None
        if data.split.mixture:
            parts = {name: self._of(source) for name, source in stage.inputs.items()}
            known = {name: part.rows for name, part in parts.items() if part is not None}
            if any(source.key in self._in_parts for source in stage.inputs.values()):
                self._in_parts.add(stage.key)
            return data.mixed(known)[0] if len(known) == len(parts) else None
        path = Path(data.split.path)
        size = path.stat().st_size * (_PACKED if path.suffix.lower() == ".gz" else 1)
        if self._head is not None:
            self.cut |= size > self._head
            self._in_parts |= {stage.key} if size > self._head else set()
            return data.peek(self._head if size > self._head else None)
        if size > WHOLE:
            self.unread = True
            return None
        return data.peek(None)
