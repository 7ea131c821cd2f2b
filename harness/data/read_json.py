"""Reads rows of JSON: one object a line, a list of objects, or an object that holds one such
list."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.opened import Broken, numbered_lines, open_text
from harness.data.row import RowDict

_LINE = "each line must be one complete JSON object, without a comma after it; mend or remove it"
_LIST_OF_OBJECTS, _BETWEEN = re.compile(r"\[\s*\{"), re.compile(r"[\s,]*")
_LIST = (
    "a file is a list of objects, `[{...}, {...}]`, an object with one such list, or one object a"
    ' line (of pandas: df.to_json(path, orient="records", lines=True))'
)


def read_json(
    path: Path, head: int | None = None, *, lines: bool, is_row: Callable[[RowDict], bool]
) -> Iterator[RowDict]:
    """The rows of a file in any of the three forms, whatever its name.

    Args:
        head: read only so many of the first bytes.
        lines: the file's name says that there is one object a line. This decides unclear cases.
        is_row: tells whether a single object is a row itself, and not an object with a list of
            rows.

    Raises:
        Broken: the file cannot be read; the message names the line or the index in the list.
    """
    with open_text(path, head=head) as handle:
        written = [line for _, line in numbered_lines(handle)]
    numbers = [number for number, line in enumerate(written, 1) if line.strip()]
    if not numbers:
        return
    first, follows = ([written[number - 1] for number in numbers] + [""])[:2]
    if not _is_object(first):  # a list, an object over several lines, or a broken line
        text = "".join(written)
        try:
            values = _values(text)
        except Broken:
            if head is not None and (begun := _begun(text)):
                yield from begun
                return
            if first.lstrip().startswith("{") and (lines or _is_object(follows)):
                _parsed(first, numbers[0])
            raise
        yield from _rows(values, is_row)
    elif not follows and not lines:
        yield from _rows([_parsed(first, numbers[0])], is_row)
    else:
        for number in numbers:
            yield _object(_parsed(written[number - 1], number), f"line {number}")


def _begun(text: str) -> list[RowDict]:
    """The whole objects of the first list of objects in a text that ends somewhere in it."""
    rows: list[RowDict] = []
    decoder, start = json.JSONDecoder(object_pairs_hook=_once), _LIST_OF_OBJECTS.search(text)
    at = len(text) if start is None else start.end() - 1
    while at < len(text):
        try:
            row, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        rows.append(row)
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it may be empty
    return rows if all(isinstance(row, dict) for row in rows) else []


def _is_object(line: str) -> bool:
    try:
        return isinstance(_loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _rows(values: Sequence[Any], is_row: Callable[[RowDict], bool]) -> Iterator[RowDict]:
    """The rows in a list, in an object with one list, or in several objects one after another."""
    if len(values) > 1:
        for place, value in enumerate(values):
            yield _object(value, f"object {place}, counted from 0,")
        return
    (content,) = values
    if isinstance(content, dict):  # {"version": ..., "data": [...]}
        if content and all(isinstance(value, Mapping) for value in content.values()):
            raise Broken("its one object holds columns, not rows", _LIST)
        content = [content] if is_row(content) else _inside(content)
    if not isinstance(content, list):
        raise Broken("line 1 is neither a list nor an object", _LIST)
    for place, value in enumerate(content):
        yield _object(value, f"item {place} of its list, counted from 0,")


def _inside(content: RowDict) -> list[Any]:
    """The rows in an object with one list of objects; the object itself if it has no such list."""
    tables: list[list[Any]] = [value for value in content.values() if _is_table(value)]
    if len(tables) == 1:
        return tables[0]
    if tables:
        raise Broken(f"its one object holds {len(tables)} lists of objects", _LIST)
    return [content]


def _values(text: str) -> list[Any]:
    """All JSON values of a text, which white space separates."""
    values: list[Any] = []
    at, decoder = 0, json.JSONDecoder(object_pairs_hook=_once)
    while rest := text[at:].lstrip():
        start = len(text) - len(rest)
        try:
            value, at = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            raise Broken(f"line {error.lineno}, column {error.colno}: {error.msg}", _LIST) from None
        except RecursionError:
            raise _too_deep("it") from None
        except ValueError as error:
            raise Broken(str(error), _LIST) from None
        if values and (isinstance(values[0], list) or isinstance(value, list)):
            line = text.count("\n", 0, start) + 1
            raise Broken(f"line {line}: more text follows after the end of the list", _LIST)
        values.append(value)
    return values


def _parsed(line: str, number: int) -> Any:
    try:
        return _loads(line)
    except json.JSONDecodeError as error:
        raise Broken(f"line {number}, column {error.colno}: {error.msg}", _LINE) from None
    except RecursionError:
        raise _too_deep(f"line {number}") from None
    except ValueError as error:
        raise Broken(f"line {number}: {error}", _LINE) from None


def _loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> RowDict:
    """An object as a dict.

    Raises:
        ValueError: a key occurs twice; one of its values would be lost silently.
    """
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in row if keys.count(key) > 1)
        raise ValueError(f"the key {double!r} occurs twice in one object")
    return row


def _object(value: Any, place: str) -> RowDict:
    if not isinstance(value, dict):
        raise Broken(f"{place} is not an object", _LIST)
    return value


def _too_deep(place: str) -> Broken:
    return Broken(f"{place} is nested too deep to be read", "flatten it, or leave it out")


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
