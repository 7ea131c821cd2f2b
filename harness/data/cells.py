"""Cells of raw rows as text, or the reason why not."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_WRITTEN = (str, int, float, Decimal, datetime.date, datetime.time, datetime.timedelta)
"""Types of cells that stand for a text; bytes, lists and mappings do not."""


class Unusable(Exception):
    """A row that cannot be brought into its layout; the message is the reason it is counted by."""


def without_nan(value: Any) -> Any:
    """The value with None in place of every NaN: tables write an empty cell so."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {name: without_nan(part) for name, part in value.items()}
    return [without_nan(part) for part in value] if isinstance(value, list) else value


def string(row: Mapping[str, Any], column: str) -> str:
    """A cell as text, a number, truth value or date as Python writes it; Unusable where it holds
    none."""
    value = row.get(column)
    if value is None:
        raise Unusable(f"no `{column}`")
    if not isinstance(value, _WRITTEN) or (isinstance(value, float) and not math.isfinite(value)):
        raise Unusable(f"`{column}` is no text")
    return str(value)


def content(value: Any) -> str:
    """A string, or what the last message of a chat says; of one that calls tools and says nothing,
    the calls as JSON."""
    if isinstance(value, str):
        return value
    return said(value[-1]) if value else ""


def said(message: Mapping[str, Any]) -> str:
    """What a message says; of one that calls tools and says nothing, the calls as JSON."""
    text = str(message.get("content") or "")
    calls = message.get("tool_calls")
    if text.strip() or not calls:
        return text
    return json.dumps([call.get("function", call) for call in calls], ensure_ascii=False)
