"""An index of a store's folders for queries: an SQLite file that only caches what they hold.

It is made again if it is missing, damaged or of another version.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import StoreError

VERSION = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files(
  path TEXT PRIMARY KEY, inode INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
  sha256 TEXT);
CREATE TABLE IF NOT EXISTS records(
  key TEXT PRIMARY KEY, kind TEXT, status TEXT, label TEXT, finished REAL, seconds REAL,
  bytes INTEGER, mtime_ns INTEGER, config TEXT, inputs TEXT, metrics TEXT, cost TEXT);
CREATE INDEX IF NOT EXISTS records_kind ON records(kind, status);
"""
_FULL_OR_READ_ONLY = ("readonly", "full", "disk I/O")


class Damaged(Exception):
    """The index was damaged; it has been made again, and is empty."""


class Index:
    """The database in one file; in memory if the file can be neither read nor made again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = self._open()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows that a query finds.

        Raises:
            Damaged: the file holds other things than were written.
            StoreError: another process holds the file for too long.
        """
        try:
            return self.database.execute(sql, values).fetchall()
        except sqlite3.ProgrammingError:  # it was closed
            raise
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise StoreError(f"the store's index is in use: {error}") from error
            self._replace()
            raise Damaged from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction. If the disk is full, the store is read-only or the file is damaged,
        nothing is cached, and the run goes on."""
        try:
            with self.database:
                yield
        except sqlite3.OperationalError as error:
            if not any(word in str(error) for word in _FULL_OR_READ_ONLY):
                raise StoreError(f"the store's index cannot be written: {error}") from error
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError:
            self._replace()

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def _open(self) -> sqlite3.Connection:
        with contextlib.suppress(sqlite3.OperationalError, OSError):  # full, read-only, locked
            try:
                return self._connect(self.path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # damaged
                self.path.unlink()
                return self._connect(self.path)
        return self._connect(":memory:")

    def _replace(self) -> None:
        self.database.close()
        with contextlib.suppress(OSError):  # of a read-only store
            self.path.unlink(missing_ok=True)
        self.database = self._connect(":memory:") if self.path.exists() else self._open()

    def _connect(self, path: Path | str) -> sqlite3.Connection:
        database = sqlite3.connect(path, timeout=30)
        try:
            if database.execute("PRAGMA user_version").fetchone()[0] not in (0, VERSION):
                database.executescript("DROP TABLE IF EXISTS files; DROP TABLE IF EXISTS records;")
            database.executescript(_SCHEMA)
            database.execute(f"PRAGMA user_version={VERSION}")
            database.execute("PRAGMA synchronous=OFF")  # losing a cache costs a second of hashing
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database
