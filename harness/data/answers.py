"""Finds where the prompt ends and the answer begins, in rows that do not say it."""

from __future__ import annotations

from typing import Any

from harness.data.cells import Unusable
from harness.data.messages import Chat, require_trained


def apart(row: dict[str, Any]) -> dict[str, Any]:
    """The row, unchanged.

    Raises:
        Unusable: its two answers are equal.
    """
    if row["chosen"] == row["rejected"]:
        raise Unusable("chosen and rejected are equal")
    return row


def split_strings(chosen: str, rejected: str) -> dict[str, Any]:
    """Split two texts: their common beginning is the prompt, and the space before an answer belongs
    to the answer (as in TRL)."""
    shared = 0
    for a, b in zip(chosen, rejected, strict=False):
        if a != b:
            break
        shared += 1
    if shared and chosen[shared - 1] == " ":
        shared -= 1
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def split_chats(chosen: Chat, rejected: Chat) -> dict[str, Any]:
    """Split two chats: the turns that both begin with are the prompt.

    Raises:
        Unusable: the chats are equal, begin differently, or have no answer of the assistant.
    """
    if chosen == rejected:
        raise Unusable("chosen and rejected are equal")
    shared = 0
    for a, b in zip(chosen, rejected, strict=False):
        if a != b:
            break
        shared += 1
    sides = {"chosen": chosen[shared:], "rejected": rejected[shared:]}
    if not shared or any(not side or side[0]["role"] != "assistant" for side in sides.values()):
        raise Unusable("chosen and rejected do not answer the same question")
    return {"prompt": chosen[:shared], **sides}


def answered_by_the_assistant(row: dict[str, Any]) -> dict[str, Any]:
    """The row, with the turns that all its answers begin with moved into the prompt, up to the
    first turn of the assistant. Some data sets have only the system turn in the prompt.

    Raises:
        Unusable: an answer does not begin with the assistant, or no turn of it is trained on.
    """
    names = [name for name in ("completion", "chosen", "rejected") if name in row]
    sides = [list(row[name]) for name in names]
    prompt, listed = list(row["prompt"]), list(row.get("responses", ()))
    while sides and sides[0] and sides[0][0]["role"] != "assistant":
        first = sides[0][0]
        if any(answer[:1] != [first] for answer in sides):
            break
        prompt.append(first)
        sides = [answer[1:] for answer in sides]
    for answer in [*sides, *listed]:
        if not answer or answer[0]["role"] != "assistant":
            raise Unusable("an answer does not begin with a turn of the assistant")
        require_trained(answer)
    return {**row, "prompt": prompt, **dict(zip(names, sides, strict=True))}
