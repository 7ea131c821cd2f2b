"""Conversations as examples: one for each turn of the assistant, the true turns before it given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.data.cells import said

Row = Mapping[str, Any]
_NUMBER = re.compile(r"(?:^|, )turn \d+\Z")


def by_turn(row: Row, *, numbered: bool) -> Iterator[dict[str, Any]]:
    """The examples of a conversation (a normal row of `messages`): each ends with one of its
    assistant's turns, which is its reference (the last turn keeps those of the row).

    Ids are the row's with `#` and the turn's number, counted from 1; the cluster is the row's, so
    that a conversation's examples count as belonging together. Turns that are empty, or that no
    user's turn stands before, are no examples, and keep their numbers.

    Args:
        numbered: the turn's number joins the group.
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
    """The assistant's turns in a conversation."""
    return sum(message["role"] == "assistant" for message in row["messages"])


def family_of(group: str) -> str:
    """A group without the number of a turn."""
    return _NUMBER.sub("", group)
