"""Columns beside a row's turns or texts: read, or refused where leaving them out would be a loss.

Columns of other names are nobody's business here: data sets carry sources, scores and the like.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.data.cells import Unusable, said, string
from harness.data.messages import is_table, parsed

Row = Mapping[str, Any]
TEMPLATE_COLUMNS = ("tools", "functions", "documents", "chat_template_kwargs")
"""Columns of a row that its chat template reads beside the turns."""
SYSTEM = ("system", "system_prompt")
"""Columns that hold what a system turn says, as sharegpt and alpaca have them."""
_UNSEEN = ("images", "image", "videos", "audios")
_QUESTIONS = ("instruction", "question", "query", "input")
"""Where data sets keep what is asked, if not under `prompt`."""


def with_columns(row: Row, found: dict[str, Any]) -> dict[str, Any]:
    """The normal row with what stands beside it: a system turn before the others, and what the chat
    template reads.

    Args:
        found: the columns of the row in its normal form, so far.

    Raises:
        Unusable: a column that cannot be read as it is meant.
    """
    if "text" in found:
        return found
    for column in _UNSEEN:
        if row.get(column):
            raise Unusable(f"`{column}` is not read, as models are given text alone; {_LEAVE_OUT}")
    name = "messages" if "messages" in found else "prompt"
    system = {column: string(row, column) for column in SYSTEM if row.get(column)}
    system = {column: text for column, text in system.items() if text.strip()}
    if isinstance(found[name], list):
        chat = found[name]
        for column, text in system.items():
            chat = _after_system(chat, text, column)
        return {**found, name: chat, **template_columns(row)}
    # `documents` stays out of this: rows of text name their sources so.
    for column in (*system, "tools", "functions", "chat_template_kwargs"):
        if row.get(column):
            raise Unusable(f"`{column}` is read in chats alone: set `chat: true`, or {_LEAVE_OUT}")
    return found


_LEAVE_OUT = "leave the column out with `map:`"


def _after_system(chat: list[dict[str, Any]], text: str, column: str) -> list[dict[str, Any]]:
    """The chat after a system turn; as it is, where it begins with that turn already."""
    if not chat or chat[0]["role"] != "system":
        return [{"role": "system", "content": text}, *chat]
    if said(chat[0]).strip() == text.strip():
        return chat
    raise Unusable(
        f"`{column}` says something else than the chat's own system turn; keep one of them:"
        f' `map: {{..., {column}: ""}}` leaves the column out'
    )


def require_question(row: Row, answers: tuple[str, ...]) -> None:
    """Raise Unusable where a row of answers alone has its question under another name: what its
    answers begin with alike would be taken for it."""
    for column in _QUESTIONS:
        if row.get(column):
            sides = ", ".join(f'{name}: "{{{name}}}"' for name in answers)
            raise Unusable(
                f"no `prompt`; if `{column}` holds it, say so:"
                f' `map: {{prompt: "{{{column}}}", {sides}}}`'
            )


def template_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row gives the chat template beside its turns: tools, documents, options.

    Raises:
        Unusable: tools or options that are none.
    """
    found: dict[str, Any] = {}
    tools = parsed(row.get("tools"), "tools")
    if not tools and row.get("functions"):  # as OpenAI wrote them before there were tools
        own = parsed(row["functions"], "functions")
        if not is_table(own):
            raise Unusable("`functions` is no list of functions")
        tools = [{"type": "function", "function": function} for function in own]
    if tools:
        if not is_table(tools):
            raise Unusable("`tools` is no list of tools")
        found["tools"] = list(tools)
    if row.get("documents"):
        if not is_table(row["documents"]):
            raise Unusable("`documents` is no list of documents")
        found["documents"] = list(row["documents"])
    options = row.get("chat_template_kwargs")
    if options:
        if not isinstance(options, Mapping):
            raise Unusable("`chat_template_kwargs` is no mapping")
        found["chat_template_kwargs"] = dict(options)
    return found
