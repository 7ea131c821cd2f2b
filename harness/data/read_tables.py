"""Reads rows of tables: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.opened import Broken, numbered_lines, open_bytes, open_text
from harness.data.row import RowDict

_FIRST_ROWS = 100
_UNENDED = "unexpected end of data"
"""What Python's reader says of a quote that is not closed."""
_LONGEST_CELL = 2**31 - 1
_COMMA = {",": "commas", "\t": "tabs", ";": "semicolons"}


def read_table(path: Path, delimiter: str, head: int | None = None) -> Iterator[RowDict]:
    """The rows of a CSV or TSV file below its header. Every cell is a string.

    Args:
        head: read only so many of the first bytes; a row that ends in later ones is left out.

    Raises:
        Broken: the file cannot be read; the message names the line.
    """
    csv.field_size_limit(_LONGEST_CELL)  # the default refuses documents over 128 KiB
    with open_text(path, newline="", head=head) as handle:
        lines = (line for _, line in numbered_lines(handle))
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = next((cells for cells in reader if cells), [])
            _require_header(header, delimiter)
            for cells in reader:
                if cells:
                    yield _row(header, cells, reader.line_num)
        except csv.Error as error:
            if head is not None and str(error) == _UNENDED:
                return
            raise Broken(
                f"line {reader.line_num}: {error}",
                'put cells that hold quotes, line feeds or separators in quotes, and write " as ""',
            ) from None


def _row(header: Sequence[str], cells: Sequence[str], line: int) -> RowDict:
    if len(cells) != len(header):
        kind = "more" if len(cells) > len(header) else "fewer"
        raise Broken(
            f"line {line} has {kind} cells than the header ({len(cells)}, not {len(header)})",
            "put cells that hold the separator or a line feed in quotes, and remove separators at"
            " the ends of lines",
        )
    return dict(zip(header, cells, strict=True))


def _require_header(header: Sequence[str], delimiter: str) -> None:
    """Check a header's column names.

    Raises:
        Broken: names repeat or have spaces around them, or the delimiter is probably another one.
    """
    _require_once(name for name in header if name)  # columns without a name are never read
    for name in header:
        if name != name.strip():
            raise Broken(
                f"line 1: the column {name!r} has blanks around its name",
                f"write no blanks beside the {_COMMA[delimiter]}",
            )
    for other, what in _COMMA.items():
        if len(header) == 1 and other != delimiter and other in header[0]:
            raise Broken(
                f"line 1 holds {what} and no {_COMMA[delimiter]}",
                "set `format: tsv`" if other == "\t" else "write it with commas, as CSV",
            )


def _require_once(names: Any) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise Broken(f"the column {name!r} occurs {times} times", "name each column once")


def read_parquet(path: Path, head: int | None = None) -> Iterator[RowDict]:
    """The rows of a Parquet file.

    Args:
        head: not None: read only its first rows.

    Raises:
        Broken: it is not a Parquet file, or a column has a type that Python cannot represent.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with open_bytes(path) as handle:
            if head is None:
                table = pyarrow.parquet.read_table(handle)
            else:
                file = pyarrow.parquet.ParquetFile(handle)
                batches = list(itertools.islice(file.iter_batches(_FIRST_ROWS), 1))
                table = pyarrow.Table.from_batches(batches, schema=file.schema_arrow)
        _require_once(table.column_names)
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OverflowError) as error:
        message = " ".join(str(error).split())
        raise Broken(message, "write it again (of pandas: df.to_parquet(path))") from None
    yield from map(without_fillers, rows)


def without_fillers(row: RowDict) -> RowDict:
    """The row without the null entries of its nested mappings. In a table, all mappings of a column
    get the same keys: each tool call would have the arguments of all other calls, as null."""

    def whole(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: whole(inner) for key, inner in value.items() if inner is not None}
        return [whole(item) for item in value] if isinstance(value, list) else value

    return {column: whole(value) for column, value in row.items()}
