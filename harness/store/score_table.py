"""The file of a score stage: one row for each example, with its keys and the scorer's
statistics."""

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
    """Write the rows, with a digest of their keys in the file's metadata.

    By this digest, a reader of many files knows which files are about the same examples, without
    reading the keys. The record's digest of the whole file protects it.
    """
    import pyarrow.parquet as pq

    digest = digest_json([table.column(name).to_pylist() for name in KEYS])
    table = table.replace_schema_metadata({_DIGEST: digest})
    pq.write_table(table, folder / SCORES, compression="zstd")


class ScoreTable:
    """An open file of a score stage. Columns are read on demand."""

    def __init__(self, folder: Path) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(folder / SCORES)

    @property
    def digest(self) -> bytes | None:
        """The digest of the keys; None in a file of an earlier version."""
        digest: bytes | None = (self._file.schema_arrow.metadata or {}).get(_DIGEST)
        return digest

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Read these columns."""
        return self._file.read(columns=list(columns), use_threads=False)
