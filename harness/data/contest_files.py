"""Files of contests, which people or other tools write: JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import DataError, shortened
from harness.data.contests import Contest

_KEYS = ("prompt", "one", "other")
_FIX = 'each line is an object such as {"prompt": "...", "one": "...", "other": "..."}'


def read_contests(path: Path) -> list[tuple[str, Contest]]:
    """The contests of a JSON-lines file, each with its id.

    A line has `prompt`, `one` and `other`, strings or lists of messages, and may have an `id` (else
    its number, from 1), a `reference` and whatever else its maker needs.

    Raises:
        DataError: a line is no such object, or two have one id.
    """
    contests: dict[str, Contest] = {}
    for number, row in numbered_objects(path, _FIX):
        place = f"{path}, line {number}"
        _require_contest(row, place)
        name = str(row.get("id", number))
        if name in contests:
            raise DataError(f"{place}: the id '{shortened(name)}' stands twice", fix="rename one")
        prompt, one, other = (row[key] for key in _KEYS)
        contests[name] = Contest(prompt, one, other, str(row.get("reference") or ""))
    if not contests:
        raise DataError(f"{path} holds no contest", fix=_FIX)
    return list(contests.items())


def numbered_objects(path: Path, fix: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file, each with the number of its line, counted from 1.

    Args:
        fix: what a line should be, for messages.

    Raises:
        DataError: the file is no UTF-8 text, or a line is no object.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})", fix=fix) from None
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is no JSON: {error}", fix=fix) from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number} is no object", fix=fix)
        yield number, row


def _require_contest(row: Mapping[str, Any], place: str) -> None:
    for key in _KEYS:
        if not is_said(row.get(key)):
            raise DataError(f"{place}: `{key}` is no text and no list of messages", fix=_FIX)


def is_said(value: Any) -> bool:
    """Whether this is a text, or a list of messages."""
    if isinstance(value, str):
        return True
    return (
        isinstance(value, Sequence)
        and bool(value)
        and all(isinstance(turn, dict) and isinstance(turn.get("content"), str) for turn in value)
    )
