"""Where prompts end and answers begin, in rows that leave it open."""

from __future__ import annotations

from typing import Any

from harness.data.cells import Unusable
from harness.data.messages import Chat, require_trained


def apart(row: dict[str, Any]) -> dict[str, Any]:
    """The pair; Unusable where its answers are equal."""
    if row["chosen"] == row["rejected"]:
        raise Unusable("chosen and rejected are equal")
    return row


def split_strings(chosen: str, rejected: str) -> dict[str, Any]:
    """The common beginning is the prompt, without the space that starts an answer (as in TRL)."""
    shared = 0
    for a, b in zip(chosen, rejected, strict=False):
        if a != b:
            break
        shared += 1
    if shared and chosen[shared - 1] == " ":
        shared -= 1
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def split_chats(chosen: Chat, rejected: Chat) -> dict[str, Any]:
    """The common turns are the prompt."""
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
    """The row with what its answers begin with alike, before their assistant speaks, in its prompt:
    some data sets have the system turn alone for a prompt.

    Raises:
        Unusable: an answer that begins with somebody else, or in which nothing is trained on.
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
