"""Reads cells of raw rows as text."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_WRITTEN = (str, int, float, Decimal, datetime.date, datetime.time, datetime.timedelta)
"""Types of cells that are read as text; bytes, lists and mappings are not."""


class Unusable(Exception):
    """A row cannot be brought into its layout. Such rows are counted by the message."""


def without_nan(value: Any) -> Any:
    """The value with None in place of every NaN, which is how tables write an empty cell."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {name: without_nan(part) for name, part in value.items()}
    return [without_nan(part) for part in value] if isinstance(value, list) else value


def string(row: Mapping[str, Any], column: str) -> str:
    """A cell as text. Numbers, booleans and dates become the text that Python's `str` gives.

    Raises:
        Unusable: the cell is empty, or its value is none of these.
    """
    value = row.get(column)
    if value is None:
        raise Unusable(f"no `{column}`")
    if not isinstance(value, _WRITTEN) or (isinstance(value, float) and not math.isfinite(value)):
        raise Unusable(f"`{column}` is no text")
    return str(value)


def content(value: Any) -> str:
    """The text of an answer: the string itself, or what the last message of a chat says (see
    `said`)."""
    if isinstance(value, str):
        return value
    return said(value[-1]) if value else ""


def said(message: Mapping[str, Any]) -> str:
    """The text of a message. If it has tool calls and no text, the calls as JSON."""
    text = str(message.get("content") or "")
    calls = message.get("tool_calls")
    if text.strip() or not calls:
        return text
    return json.dumps([call.get("function", call) for call in calls], ensure_ascii=False)
