"""Splits conversations into examples: one for each turn of the assistant, after the true turns
before it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from harness.data.cells import said
from harness.data.row import Row

_NUMBER = re.compile(r"(?:^|, )turn \d+\Z")


def by_turn(row: Row, *, numbered: bool) -> Iterator[dict[str, Any]]:
    """The examples of a conversation (a normal row with `messages`). Each ends with one turn of the
    assistant, whose text is the example's reference; the last example keeps the row's references.

    An example's id is the row's id with `#` and the turn's number, counted from 1. Its cluster is
    the row's, so that the examples of a conversation belong together. Turns that are empty, or have
    no user's turn before them, make no example, but are counted in the numbers.

    Args:
        numbered: whether the turn's number is added to the example's group.
    """
    messages, number, asked = row["messages"], 0, False
    for place, message in enumerate(messages):
        asked = asked or message["role"] == "user"
        if message["role"] != "assistant":
            continue
        number += 1
        last = place + 1 == len(messages)
        if not last and (not asked or not said(message).strip()):
            continue
        turn = f"turn {number}"
        yield {
            **row,
            "id": f"{row['id']}#{number}",
            "group": (f"{row['group']}, {turn}" if row["group"] else turn)
            if numbered
            else row["group"],
            "messages": messages[: place + 1],
            "references": row["references"] if last else [said(message)],
        }


def turns_said(row: Row) -> int:
    """The number of the assistant's turns in a conversation."""
    return sum(message["role"] == "assistant" for message in row["messages"])


def family_of(group: str) -> str:
    """A group's name without the number of a turn."""
    return _NUMBER.sub("", group)
