"""The file of a score stage: one row an example, its keys and the scorer's statistics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.files import digest_json

if TYPE_CHECKING:
    import pyarrow as pa

SCORES = "scores.parquet"
KEYS = ("example_id", "cluster", "group")
_DIGEST = b"harness:keys"


def write_scores(folder: Path, table: pa.Table) -> None:
    """Write the rows, and in the file's metadata the digest of their keys.

    By it a reader of a thousand files tells which are about the same examples without reading a
    name; the digest of the whole file, in the record, covers it.
    """
    import pyarrow.parquet as pq

    digest = digest_json([table.column(name).to_pylist() for name in KEYS])
    table = table.replace_schema_metadata({_DIGEST: digest})
    pq.write_table(table, folder / SCORES, compression="zstd")


class ScoreTable:
    """A score stage's file, opened; columns are read when asked for."""

    def __init__(self, folder: Path) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(folder / SCORES)

    @property
    def digest(self) -> bytes | None:
        """Of the keys; None in a file that an earlier version wrote."""
        found: bytes | None = (self._file.schema_arrow.metadata or {}).get(_DIGEST)
        return found

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns."""
        return self._file.read(columns=list(columns), use_threads=False)
