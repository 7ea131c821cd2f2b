"""Raw rows as a table: which columns there are, and which rows a split keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.core.errors import DataError
from harness.data.cells import without_nan
from harness.data.mapped import no_column

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The columns of all rows together: a key that one row leaves out is an empty cell of it.

    Attributes:
        source: the file, for messages.
        first: column -> its first value that is not empty; the columns in order of appearance.
    """

    source: str
    first: Row

    @classmethod
    def of(cls, source: str, rows: Sequence[Row]) -> Table:
        """The table of these rows."""
        first: Row = {}
        for row in rows:
            for column, value in row.items():
                if first.get(column) is None:
                    first[column] = without_nan(value)
        return cls(source, first)

    def whole(self, row: Row) -> Row:
        """The row with every column, and None in place of NaN."""
        full = row if len(row) == len(self.first) else {**self._empty, **row}
        return {column: without_nan(value) for column, value in full.items()}

    @cached_property
    def _empty(self) -> Row:
        return dict.fromkeys(self.first)

    def require(self, column: str, place: str) -> None:
        """Raise DataError where no row has the column."""
        if column not in self.first:
            raise DataError(no_column(column, self.first, self.source), where=place)


def matches(row: Row, wanted: Mapping[str, Any]) -> bool:
    """Whether the columns have these values, or one of a list."""
    for column, value in wanted.items():
        choices, own = value if isinstance(value, list) else [value], row.get(column)
        if own not in choices and str(own) not in [str(choice) for choice in choices]:
            return False
    return True


def fits(row: Row, option: str, limits: Mapping[str, int]) -> bool:
    """Whether the columns are long enough, or short enough."""
    for column, limit in limits.items():
        size = _characters(row.get(column))
        if size < limit if option == "min_chars" else size > limit:
            return False
    return True


def _characters(value: Any) -> int:
    """Of a text, or of all texts in a list of messages; nothing where there is no value."""
    if isinstance(value, list):
        return sum(map(_characters, value))
    if isinstance(value, Mapping):
        return _characters(value.get("content", value.get("value")))
    return 0 if value is None else len(str(value))
