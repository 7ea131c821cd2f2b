"""A table of scores as CSV, TSV or Parquet: `example_id`, one column a metric, and optionally
`variant`, `seed`, `cluster` and `evaluation`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.comparison.measured import Examples, Measured, Run
from harness.core.errors import shortened, why
from harness.core.text import label
from harness.importers.base import lower_is_better
from harness.importers.collector import table_metric
from harness.importers.files import MAX_BYTES, Unreadable, digest

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "csv"
TITLE = "a table (.csv, .tsv, .parquet): example_id, one column a metric; variant, seed, cluster"
_ID = "example_id"
_NAMED = (_ID, "variant", "seed", "cluster", "evaluation")
MAX_ROWS = 5_000_000
"""The most rows of a table: a check of as many needs some 4 GiB."""
_FIX = "the first line names the columns: example_id, then one column a metric"


def recognises(path: Path, start: bytes) -> bool:
    """Whether the first line names `example_id`, or the Parquet file has such a column."""
    if path.is_dir():
        return False
    if start.startswith(b"PAR1"):
        import pyarrow.parquet as pq

        try:
            return _ID in pq.read_schema(path).names
        except (OSError, ValueError):
            return False
    line = start.split(b"\n", 1)[0].decode("utf-8-sig", "replace").strip().replace('"', "")
    return not line.startswith(("{", "[")) and _ID in (line.split("," if "," in line else "\t"))


def read(path: Path) -> list[Run]:
    """A run for each variant and seed.

    Raises:
        Unreadable: it is no such table.
    """
    where = str(path)
    table = _table(path)
    if table.num_rows == 0:
        raise Unreadable("has no rows", where=where)
    if _ID not in table.column_names:
        raise Unreadable(f"has no column {_ID}", where=where, fix=_FIX)
    if len(set(table.column_names)) < len(table.column_names):
        raise Unreadable("has two columns of one name", where=where)
    names = [n for n in table.column_names if n not in _NAMED]
    if not names:
        raise Unreadable("has no column of a metric", where=where, fix=_FIX)
    for name in _NAMED:
        if name in table.column_names and table.column(name).null_count:
            raise Unreadable(f"the column {name} has empty cells", where=where)
    source = {"tool": "csv", "file": path.name, "sha256": digest(path)}
    return [
        Run(variant, _metrics(part, names, where), seed, source)
        for variant, seed, part in _parts(table, path)
    ]


def _table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    try:
        if path.stat().st_size > MAX_BYTES:
            raise Unreadable("is too large", where=str(path))
        with path.open("rb") as handle:
            start = handle.read(65536)
        if start.startswith(b"PAR1"):
            _require_few(pq.read_metadata(path).num_rows, path)
            return _plain(pq.read_table(path, use_threads=False), str(path))
        _require_few(_lines(path) - 1, path)
        text = start.split(b"\n", 1)[0]
        delimiter = "," if b"," in text or b"\t" not in text else "\t"
        kinds = dict.fromkeys((_ID, "variant", "cluster", "evaluation"), pa.string())
        return csv.read_csv(
            path,
            read_options=csv.ReadOptions(use_threads=False),
            parse_options=csv.ParseOptions(delimiter=delimiter),
            convert_options=csv.ConvertOptions(
                column_types=kinds, null_values=["", "NA", "None", "null"], strings_can_be_null=True
            ),
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
        raise Unreadable(
            f"is not a table: {shortened(why(error), 300)}", where=str(path), fix=_FIX
        ) from error


def _lines(path: Path) -> int:
    """The number of line ends, counted without keeping the lines."""
    with path.open("rb") as handle:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: handle.read(2**20), b""))


def _require_few(rows: int, path: Path) -> None:
    if rows > MAX_ROWS:
        raise Unreadable(
            f"has {rows:,} rows, more than {MAX_ROWS:,}", where=str(path),
            fix="check a sample of them, or each evaluation in a file of its own",
        )  # fmt: skip


def _plain(table: pa.Table, where: str) -> pa.Table:
    """The table with the columns of names as text."""
    import pyarrow as pa

    for name in (_ID, "variant", "cluster", "evaluation"):
        if name in table.column_names:
            at = table.column_names.index(name)
            table = table.set_column(at, name, table.column(name).cast(pa.string()))
    return table


def _parts(table: pa.Table, path: Path) -> list[tuple[str, int, pa.Table]]:
    """(variant, seed, rows) of each run."""
    import pyarrow.compute as pc

    parts = []
    names = _distinct(table, "variant") or [path.stem]
    for name in names:
        rows = table
        if "variant" in table.column_names:
            rows = table.filter(pc.equal(table.column("variant"), name))
        seeds = _distinct(rows, "seed") or [0]
        for seed in seeds:
            if isinstance(seed, bool) or not isinstance(seed, int):
                raise Unreadable(f"the seed {seed!r} is not a whole number", where=str(path))
            part = rows
            if "seed" in rows.column_names:
                part = rows.filter(pc.equal(rows.column("seed"), seed))
            parts.append((label(name), seed, part))
    return parts


def _distinct(table: pa.Table, column: str) -> list:
    if column not in table.column_names:
        return []
    values: list = table.column(column).unique().to_pylist()
    if len(values) > 10_000:
        raise Unreadable(f"the column {column} has {len(values)} different values")
    return values


def _metrics(table: pa.Table, names: list[str], where: str) -> tuple[Measured, ...]:
    import pyarrow.compute as pc

    found = []
    for evaluation in _distinct(table, "evaluation") or [""]:
        rows = table
        if evaluation:
            rows = table.filter(pc.equal(table.column("evaluation"), evaluation))
        for name in names:
            metric = _metric(rows, name, evaluation, where)
            found += [] if metric is None else [metric]
    if not found:
        raise Unreadable("no metric has a score", where=where)
    return tuple(found)


def _metric(table: pa.Table, name: str, evaluation: str, where: str) -> Measured | None:
    import pyarrow as pa

    column = table.column(name).combine_chunks()
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
            or pa.types.is_boolean(column.type) or pa.types.is_null(column.type)):  # fmt: skip
        raise Unreadable(
            f"the column {shortened(name)} holds {column.type}, not numbers", where=where,
            fix="columns of a table are metrics, except example_id, variant, seed, cluster and"
            " evaluation",
        )  # fmt: skip
    ids = table.column(_ID).combine_chunks()
    clusters = table.column("cluster").combine_chunks() if "cluster" in table.column_names else None
    lost = column.null_count
    if lost == len(column):
        return None
    if lost:
        kept = column.is_valid()
        column, ids = column.filter(kept), ids.filter(kept)
        clusters = None if clusters is None else clusters.filter(kept)
    values = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise Unreadable(
            f"{shortened(name)} of '{shortened(str(ids[row]))}' is {values[row]}, not a finite"
            " number", where=where, fix="leave the cell empty if the example has no score",
        )  # fmt: skip
    return table_metric(
        name, evaluation, Examples(ids, clusters), {"value": values}, where=where,
        lower=lower_is_better(name), unscored=lost,
    )  # fmt: skip
