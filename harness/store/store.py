"""The folder of stages, and queries of what it holds."""

from __future__ import annotations

import contextlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.core.errors import StoreError, why
from harness.core.outside import digest_settled, state_of
from harness.store.index import Damaged, Index
from harness.store.places import require_writable
from harness.store.stage import (
    FOLDER_NAME,
    RECORD,
    SPEC,
    Output,
    Record,
    Stage,
    read_record,
    write_record,
)

_JSON = ("config", "inputs", "metrics", "cost")
_COLUMNS = ("key", "kind", "status", "label", "finished", "seconds", "bytes", *_JSON)
_INSERT = f"INSERT OR REPLACE INTO records VALUES({','.join('?' * 12)})"


class Store:
    """Stage folders below `root`: `<root>/<kind>/<key>/`."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = "it is a file" if self.root.is_file() else why(error)
            raise StoreError(
                f"cannot make the store {self.root}: {reason}",
                fix="name a folder by --store or HARNESS_STORE, where files can be written",
            ) from error
        self._index = Index(self.root / "index.sqlite")

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Show `harness gc` during the block that a run works here. The lock of a killed run ends
        with its process.

        Raises:
            StoreError: the store cannot be written.
        """
        fix = "free space, or name another --store; `harness report` reads a store as it is"
        require_writable(self.root, "stages", fix)
        path = self.root / "runs" / f"{uuid.uuid4().hex}.lock"
        try:
            with FileLock(path):
                yield
        finally:
            path.unlink(missing_ok=True)

    def runs(self) -> int:
        """The number of runs that work here now. The locks of ended runs are removed."""
        live = 0
        for path in (self.root / "runs").glob("*.lock"):
            try:
                with FileLock(path, timeout=0):
                    path.unlink(missing_ok=True)
            except Timeout:
                live += 1
        return live

    def record(self, stage: Stage) -> Record | None:
        """The stage's record; None if it has none, or if the record is damaged."""
        folder = stage.path(self.root)
        record = read_record(folder)
        if record is None or record.key != stage.key:
            return None
        self._remember(folder, record)
        return record

    def keep_failure(self, stage: Stage, record: Record) -> None:
        """Write the record of a failed stage into its folder, unless the folder has a good record.

        If this is not possible (another run works there, the disk is full), nothing is written: the
        run that failed still has the record, and another run makes its own.
        """
        folder = stage.path(self.root)
        with contextlib.suppress(Timeout, OSError), FileLock(folder / "lock", timeout=0):
            known = read_record(folder)
            if known is None or not known.ok:
                write_record(folder, record)

    def failures(self) -> dict[str, Record]:
        """Key -> record of the stages that failed and did not finish since, including killed
        ones."""
        rows = self.query(status="failed")
        records = (read_record(self.root / r["kind"] / r["key"][:FOLDER_NAME]) for r in rows)
        return {record.key: record for record in records if record is not None and not record.ok}

    def done(self, stage: Stage, *, outputs: bool) -> Record | None:
        """The stage's record if it finished without failure and its outputs match their digests,
        else None.

        Args:
            outputs: whether the outputs are needed. If so, None is also returned if `harness gc`
                removed one of them.
        """
        record = self.record(stage)
        if record is None or not record.ok or not self.intact(stage, record):
            return None
        if outputs and any(output.released for output in record.outputs.values()):
            return None
        return record

    def intact(self, stage: Stage, record: Record) -> bool:
        """True if every output has its recorded size and sha256. Outputs that `harness gc` removed
        are not checked."""
        folder = stage.path(self.root)
        for name, output in record.outputs.items():
            if output.released:
                continue
            path = folder / name
            if not path.is_file() or path.stat().st_size != output.bytes:
                return False
            if self.file_digest(path) != output.sha256:
                return False
        return True

    def file_digest(self, path: Path) -> str:
        """The sha256 of a file. It is remembered as long as the file's state stays
        (harness.core.outside)."""
        known = self._rows(
            "SELECT sha256 FROM files WHERE path=? AND inode=? AND size=? AND mtime_ns=?"
            " AND ctime_ns=?", (str(path), *state_of(path)),
        )  # fmt: skip
        if known:
            return str(known[0][0])
        digest, state = digest_settled(path)
        if state is not None:
            with self._index.writing():
                row = (str(path), *state, digest)
                insert = "INSERT OR REPLACE INTO files VALUES(?,?,?,?,?,?)"
                self._index.database.execute(insert, row)
        return digest

    def query(
        self, kind: str | None = None, status: str | None = None, text: str = ""
    ) -> list[dict[str, Any]]:
        """The rows of the index that match, newest first.

        Args:
            text: must occur in the label or the config.
        """
        self.refresh()
        rows = self._rows(
            f"SELECT {', '.join(_COLUMNS)}"
            " FROM records WHERE kind=COALESCE(?,kind) AND status=COALESCE(?,status)"
            " AND (label LIKE ? OR config LIKE ?) ORDER BY finished DESC",
            (kind, status, f"%{text}%", f"%{text}%"),
        )
        return [
            {c: json.loads(v) if c in _JSON else v for c, v in zip(_COLUMNS, row, strict=True)}
            for row in rows
        ]

    def costs(self, kinds: Sequence[str], device: str) -> dict[str, list[dict[str, Any]]]:
        """Kind -> the costs of its stages that finished without failure on a type of device.

        Args:
            device: `cpu` or `cuda`.
        """
        self.refresh()
        costs = {}
        for kind in kinds:
            rows = self._rows(
                "SELECT config, cost FROM records WHERE kind=? AND status='ok'", (kind,)
            )
            costs[kind] = [
                json.loads(cost) for config, cost in rows
                if json.loads(config).get("device", device) == device
            ]  # fmt: skip
        return costs

    def refresh(self) -> None:
        """Update the index from the folders, which other processes may have written."""
        try:
            rows = self._index.rows("SELECT key, mtime_ns FROM records")
        except Damaged:
            rows = []
        known = {key[:FOLDER_NAME]: (key, stamp) for key, stamp in rows}
        present, read = set(), []
        for path in self.root.glob(f"*/*/{RECORD}"):
            with contextlib.suppress(FileNotFoundError):
                key, stamp = known.get(path.parent.name, ("", 0))
                if stamp != path.stat().st_mtime_ns:
                    record = read_record(path.parent)
                    if record is None:
                        continue
                    read.append(_row(path, record))
                    key = record.key
                present.add(key)
        gone = [(key,) for key, _ in rows if key not in present]
        with self._index.writing():
            self._index.database.executemany(_INSERT, read)
            self._index.database.executemany("DELETE FROM records WHERE key=?", gone)

    def folders(self) -> Iterator[Path]:
        """The folders of all stages, finished or not."""
        yield from (path.parent for path in self.root.glob(f"*/*/{SPEC}"))

    def release(self, folder: Path, names: Iterable[str]) -> int:
        """Remove some outputs of a finished stage, and note it in its record.

        Returns:
            The number of bytes freed.
        """
        record = read_record(folder)
        if record is None:
            return 0
        names = [n for n in names if n in record.outputs and not record.outputs[n].released]
        outputs = dict(record.outputs)
        for name in names:
            outputs[name] = Output(**{**outputs[name].model_dump(), "released": True})
        # The record first: a kill in between leaves files that are no longer counted, never a
        # record that promises files which are gone.
        write_record(folder, record.model_copy(update={"outputs": outputs}))
        for name in names:
            (folder / name).unlink(missing_ok=True)
        return sum(record.outputs[name].bytes for name in names)

    def remove(self, folder: Path) -> int:
        """Remove the folder of a stage, and its record before the other files.

        Returns:
            The number of bytes freed.
        """
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        (folder / RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder)
        return size

    def _remember(self, folder: Path, record: Record) -> None:
        stamp = (folder / RECORD).stat().st_mtime_ns
        sought = "SELECT 1 FROM records WHERE key=? AND mtime_ns=?"
        if self._rows(sought, (record.key, stamp)):
            return
        with self._index.writing():
            self._index.database.execute(_INSERT, _row(folder / RECORD, record))

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows that a query finds in the index, which is filled again if it was damaged."""
        try:
            return self._index.rows(sql, values)
        except Damaged:
            self.refresh()
            return self._index.rows(sql, values)

    def close(self) -> None:
        """Close the index."""
        self._index.close()


def _row(path: Path, record: Record) -> tuple[Any, ...]:
    """The row of a record in the index.

    Args:
        path: the record's file.
    """
    return (
        record.key, record.kind, record.status, record.label, record.provenance.get("finished"),
        record.cost.get("seconds"), record.bytes, path.stat().st_mtime_ns,
        json.dumps(record.config), json.dumps(record.inputs), json.dumps(record.metrics),
        json.dumps(record.cost),
    )  # fmt: skip
