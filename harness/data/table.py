"""Views raw rows as a table: its columns, and the rows that a split keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.core.errors import DataError
from harness.data.cells import without_nan
from harness.data.mapped import no_column
from harness.data.row import RowDict


@dataclass(frozen=True)
class Table:
    """The columns of all rows. A key that a row lacks is an empty cell of that row.

    Attributes:
        source: the file, for messages.
        first: column -> its first value that is not empty, with the columns in the order in which
            they first occur.
    """

    source: str
    first: RowDict

    @classmethod
    def of(cls, source: str, rows: Sequence[RowDict]) -> Table:
        """The table of these rows."""
        first: RowDict = {}
        for row in rows:
            for column, value in row.items():
                if first.get(column) is None:
                    first[column] = without_nan(value)
        return cls(source, first)

    def whole(self, row: RowDict) -> RowDict:
        """The row with all columns, and with None in place of NaN."""
        full = row if len(row) == len(self.first) else {**self._empty, **row}
        return {column: without_nan(value) for column, value in full.items()}

    @cached_property
    def _empty(self) -> RowDict:
        return dict.fromkeys(self.first)

    def require(self, column: str, place: str) -> None:
        """Raise DataError if no row has the column."""
        if column not in self.first:
            raise DataError(no_column(column, self.first, self.source), where=place)


def matches(row: RowDict, wanted: Mapping[str, Any]) -> bool:
    """True if each of these columns has the wanted value, or one of the wanted list."""
    for column, value in wanted.items():
        choices, cell = value if isinstance(value, list) else [value], row.get(column)
        if cell not in choices and str(cell) not in [str(choice) for choice in choices]:
            return False
    return True


def fits(row: RowDict, option: str, limits: Mapping[str, int]) -> bool:
    """True if the columns have at least (`min_chars`) or at most (`max_chars`) so many characters.

    Args:
        option: `min_chars` or `max_chars`.
        limits: column -> number of characters.
    """
    for column, limit in limits.items():
        size = _characters(row.get(column))
        if size < limit if option == "min_chars" else size > limit:
            return False
    return True


def _characters(value: Any) -> int:
    """The characters of a text, or of all texts in a list of messages; 0 if there is no value."""
    if isinstance(value, list):
        return sum(map(_characters, value))
    if isinstance(value, Mapping):
        return _characters(value.get("content", value.get("value")))
    return 0 if value is None else len(str(value))
