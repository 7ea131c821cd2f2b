"""Rows of JSON: one object a line, a list of objects, or an object that holds one such list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.opened import Broken, numbered_lines, open_text

Row = dict[str, Any]
_LINE = "each line is one JSON object, whole and without a comma after it; mend or remove this one"
_LIST = (
    "a file is a list of objects, `[{...}, {...}]`, an object with one such list, or one object a"
    ' line (of pandas: df.to_json(path, orient="records", lines=True))'
)


def read_json(path: Path, *, lines: bool, is_row: Callable[[Row], bool]) -> Iterator[Row]:
    """The rows, whichever of the three forms the file has, whatever it is called.

    Args:
        lines: its name says one object a line. That decides where both could be meant.
        is_row: whether an object that stands alone is a row, not one that holds a list of rows.

    Raises:
        Broken: with the line, or the place in the list.
    """
    with open_text(path) as handle:
        written = [line for _, line in numbered_lines(handle)]
    told = [number for number, line in enumerate(written, 1) if line.strip()]
    if not told:
        return
    head, follows = ([written[number - 1] for number in told] + [""])[:2]
    if not _is_object(head):  # a list, or an object over several lines; or this line is broken
        try:
            values = _values("".join(written))
        except Broken:
            if head.lstrip().startswith("{") and (lines or _is_object(follows)):
                _parsed(head, told[0])
            raise
        yield from _rows(values, is_row)
    elif not follows and not lines:
        yield from _rows([_parsed(head, told[0])], is_row)
    else:
        for number in told:
            yield _object(_parsed(written[number - 1], number), f"line {number}")


def _is_object(line: str) -> bool:
    try:
        return isinstance(_loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _rows(values: Sequence[Any], is_row: Callable[[Row], bool]) -> Iterator[Row]:
    """Of a list, of an object that holds just one, or of objects one after another."""
    if len(values) > 1:
        for place, value in enumerate(values):
            yield _object(value, f"object {place}, counted from 0,")
        return
    (found,) = values
    if isinstance(found, dict):  # {"version": ..., "data": [...]}
        if found and all(isinstance(value, Mapping) for value in found.values()):
            raise Broken("its one object holds columns, not rows", _LIST)
        found = [found] if is_row(found) else _inside(found)
    if not isinstance(found, list):
        raise Broken("line 1 is neither a list nor an object", _LIST)
    for place, value in enumerate(found):
        yield _object(value, f"item {place} of its list, counted from 0,")


def _inside(found: Row) -> list[Any]:
    """The rows that the file's one object holds; itself where it holds no list of objects."""
    tables: list[list[Any]] = [value for value in found.values() if _is_table(value)]
    if len(tables) == 1:
        return tables[0]
    if tables:
        raise Broken(f"its one object holds {len(tables)} lists of objects", _LIST)
    return [found]


def _values(text: str) -> list[Any]:
    """Every JSON value of the text; white space stands between them."""
    found: list[Any] = []
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
        if found and (isinstance(found[0], list) or isinstance(value, list)):
            line = text.count("\n", 0, start) + 1
            raise Broken(f"line {line}: more follows after the end of the list", _LIST)
        found.append(value)
    return found


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


def _once(pairs: list[tuple[str, Any]]) -> Row:
    """An object; a key that stands twice would lose one of its values without a word."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in made if keys.count(key) > 1)
        raise ValueError(f"the key {double!r} stands twice in one object")
    return made


def _object(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise Broken(f"{place} is no object", _LIST)
    return value


def _too_deep(place: str) -> Broken:
    return Broken(f"{place} is nested too deep to be read", "flatten it, or leave it out")


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
