"""The folder of stages, and an index over it that answers queries.

The folders are the truth. The index (SQLite) only remembers what was read from them: it is made
anew when it is missing, damaged or of another version.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.core.errors import StoreError
from harness.core.outside import digest_settled, state_of
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

_VERSION = 3
_JSON = ("config", "inputs", "metrics", "cost")
_COLUMNS = ("key", "kind", "status", "label", "finished", "seconds", "bytes", *_JSON)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files(
  path TEXT PRIMARY KEY, inode INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
  sha256 TEXT);
CREATE TABLE IF NOT EXISTS records(
  key TEXT PRIMARY KEY, kind TEXT, status TEXT, label TEXT, finished REAL, seconds REAL,
  bytes INTEGER, mtime_ns INTEGER, config TEXT, inputs TEXT, metrics TEXT, cost TEXT);
CREATE INDEX IF NOT EXISTS records_kind ON records(kind, status);
"""


_INSERT = f"INSERT OR REPLACE INTO records VALUES({','.join('?' * 12)})"


class Store:
    """Stage folders below `root`: `<root>/<kind>/<key>/`."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the store {self.root}: {error}") from error
        self._db = self._open_index()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Tell gc that a run works here; a killed run's lock goes with its process.

        Raises:
            StoreError: the store cannot be written.
        """
        fix = "free space, or name another --store; `harness report` reads a store as it is"
        require_writable(self.root, "stages", fix)
        folder = self.root / "runs"
        folder.mkdir(exist_ok=True)
        path = folder / f"{uuid.uuid4().hex}.lock"
        try:
            with FileLock(path):
                yield
        finally:
            path.unlink(missing_ok=True)

    def runs(self) -> int:
        """How many runs work here now; locks of ended ones are removed."""
        live = 0
        for path in (self.root / "runs").glob("*.lock"):
            try:
                with FileLock(path, timeout=0):
                    path.unlink(missing_ok=True)
            except Timeout:
                live += 1
        return live

    def record(self, stage: Stage) -> Record | None:
        """The stage's record, or None when it has none that can be trusted."""
        folder = stage.path(self.root)
        record = read_record(folder)
        if record is None or record.key != stage.key:
            return None
        self._remember(folder, record)
        return record

    def keep_failure(self, stage: Stage, record: Record) -> None:
        """Write the record of a failure into a stage's folder that has no better one.

        What stands in the way of that (another run works there, the disk is full) leaves it out:
        the run that failed holds the record all the same, and another one makes its own.
        """
        folder = stage.path(self.root)
        with contextlib.suppress(Timeout, OSError), FileLock(folder / "lock", timeout=0):
            known = read_record(folder)
            if known is None or not known.ok:
                write_record(folder, record)

    def failures(self) -> dict[str, Record]:
        """What failed and was not done since, by key; what was lost included."""
        rows = self.query(status="failed")
        found = (read_record(self.root / r["kind"] / r["key"][:FOLDER_NAME]) for r in rows)
        return {record.key: record for record in found if record is not None and not record.ok}

    def done(self, stage: Stage, *, outputs: bool) -> Record | None:
        """The stage's record if it finished well and its outputs hold their digests.

        Args:
            outputs: the outputs themselves are needed; one released by gc then counts as undone.
        """
        record = self.record(stage)
        if record is None or not record.ok or not self.intact(stage, record):
            return None
        if outputs and any(output.released for output in record.outputs.values()):
            return None
        return record

    def intact(self, stage: Stage, record: Record) -> bool:
        """Whether every output is there with its recorded size and sha256."""
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
        """sha256 of a file, remembered by its path and state (harness.core.outside)."""
        known = self._db.execute(
            "SELECT sha256 FROM files WHERE path=? AND inode=? AND size=? AND mtime_ns=?"
            " AND ctime_ns=?", (str(path), *state_of(path)),
        ).fetchone()  # fmt: skip
        if known:
            return str(known[0])
        digest, state = digest_settled(path)
        if state is not None:
            with self._writing():
                row = (str(path), *state, digest)
                self._db.execute("INSERT OR REPLACE INTO files VALUES(?,?,?,?,?,?)", row)
        return digest

    def query(
        self, kind: str | None = None, status: str | None = None, text: str = ""
    ) -> list[dict[str, Any]]:
        """Rows of the index, newest first; `text` must occur in the label or the config."""
        self.refresh()
        rows = self._db.execute(
            f"SELECT {', '.join(_COLUMNS)}"
            " FROM records WHERE kind=COALESCE(?,kind) AND status=COALESCE(?,status)"
            " AND (label LIKE ? OR config LIKE ?) ORDER BY finished DESC",
            (kind, status, f"%{text}%", f"%{text}%"),
        ).fetchall()
        return [
            {c: json.loads(v) if c in _JSON else v for c, v in zip(_COLUMNS, row, strict=True)}
            for row in rows
        ]

    def costs(self, kinds: Sequence[str], device: str) -> dict[str, list[dict[str, Any]]]:
        """What each stage of these kinds that finished well on a class of device cost, by kind."""
        self.refresh()
        found = {}
        for kind in kinds:
            rows = self._db.execute(
                "SELECT config, cost FROM records WHERE kind=? AND status='ok'", (kind,)
            )
            found[kind] = [
                json.loads(cost) for config, cost in rows
                if json.loads(config).get("device", device) == device
            ]  # fmt: skip
        return found

    def refresh(self) -> None:
        """Bring the index up to date with the folders, whoever wrote them."""
        rows = self._db.execute("SELECT key, mtime_ns FROM records").fetchall()
        known = {key[:FOLDER_NAME]: (key, stamp) for key, stamp in rows}
        found, read = set(), []
        for path in self.root.glob(f"*/*/{RECORD}"):
            with contextlib.suppress(FileNotFoundError):
                key, stamp = known.get(path.parent.name, ("", 0))
                if stamp != path.stat().st_mtime_ns:
                    record = read_record(path.parent)
                    if record is None:
                        continue
                    read.append(_row(path, record))
                    key = record.key
                found.add(key)
        gone = [(key,) for key, _ in rows if key not in found]
        with self._writing():
            self._db.executemany(_INSERT, read)
            self._db.executemany("DELETE FROM records WHERE key=?", gone)

    def folders(self) -> Iterator[Path]:
        """Every stage folder, finished or not."""
        yield from (path.parent for path in self.root.glob(f"*/*/{SPEC}"))

    def release(self, folder: Path, names: Iterable[str]) -> int:
        """Remove some outputs of a finished stage and say so in its record; bytes freed."""
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
        """Remove a stage folder, its record first; bytes freed."""
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        (folder / RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder)
        return size

    def _remember(self, folder: Path, record: Record) -> None:
        stamp = (folder / RECORD).stat().st_mtime_ns
        known = self._db.execute(
            "SELECT 1 FROM records WHERE key=? AND mtime_ns=?", (record.key, stamp)
        ).fetchone()
        if known:
            return
        with self._writing():
            self._db.execute(_INSERT, _row(folder / RECORD, record))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction. A full disk or a read-only store costs the memo, not the run."""
        try:
            with self._db:
                yield
        except sqlite3.OperationalError as error:
            if not any(word in str(error) for word in ("readonly", "full", "disk I/O")):
                raise StoreError(f"the store's index cannot be written: {error}") from error

    def _open_index(self) -> sqlite3.Connection:
        """The index's file; where that can be neither read nor made anew, one in memory."""
        path = self.root / "index.sqlite"
        with contextlib.suppress(sqlite3.OperationalError, OSError):  # full, read-only, locked
            try:
                return self._connect(path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # damaged
                path.unlink()
                return self._connect(path)
        return self._connect(":memory:")

    def _connect(self, path: Path | str) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=30)
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] not in (0, _VERSION):
                db.executescript("DROP TABLE IF EXISTS files; DROP TABLE IF EXISTS records;")
            db.executescript(_SCHEMA)
            db.execute(f"PRAGMA user_version={_VERSION}")
            db.execute("PRAGMA synchronous=OFF")  # a cache: losing it costs a second of hashing
        except sqlite3.DatabaseError:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close the index."""
        self._db.close()


def _row(path: Path, record: Record) -> tuple[Any, ...]:
    """A record's row in the index; `path` is its file's."""
    return (
        record.key, record.kind, record.status, record.label, record.provenance.get("finished"),
        record.cost.get("seconds"), record.bytes, path.stat().st_mtime_ns,
        json.dumps(record.config), json.dumps(record.inputs), json.dumps(record.metrics),
        json.dumps(record.cost),
    )  # fmt: skip
