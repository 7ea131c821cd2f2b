"""Reads the columns besides a row's turns or texts, such as `system`, `tools` and `images`.

A row is refused if such a column holds something that cannot be used. Columns with other names are
ignored: data sets carry sources, scores and the like.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.data.cells import Unusable, said, string
from harness.data.messages import is_table, parsed
from harness.data.row import Row

RAW_TEMPLATE_COLUMNS = ("tools", "functions", "documents", "chat_template_kwargs")
"""Columns of a raw row that the chat template reads besides the turns."""
SYSTEM = ("system", "system_prompt")
"""Columns that hold the text of a system turn, as in sharegpt and alpaca."""
_UNSEEN = ("images", "image", "videos", "audios")
_QUESTIONS = ("instruction", "question", "query", "input")
"""Columns in which data sets keep the question, if not in `prompt`."""


def with_columns(row: Row, columns: dict[str, Any]) -> dict[str, Any]:
    """The normal row with its system turn and with the columns that the chat template reads.

    Args:
        row: the raw row.
        columns: the columns of the row in its normal form, so far.

    Raises:
        Unusable: a column cannot be used as it is meant.
    """
    if "text" in columns:
        return columns
    for column in _UNSEEN:
        if row.get(column):
            raise Unusable(f"`{column}` is not read, as models are given text alone; {_LEAVE_OUT}")
    name = "messages" if "messages" in columns else "prompt"
    system = {column: string(row, column) for column in SYSTEM if row.get(column)}
    system = {column: text for column, text in system.items() if text.strip()}
    if isinstance(columns[name], list):
        chat = columns[name]
        for column, text in system.items():
            chat = _after_system(chat, text, column)
        return {**columns, name: chat, **template_columns(row)}
    # `documents` stays out of this: rows of text name their sources so.
    for column in (*system, "tools", "functions", "chat_template_kwargs"):
        if row.get(column):
            raise Unusable(f"`{column}` is read in chats alone: set `chat: true`, or {_LEAVE_OUT}")
    return columns


_LEAVE_OUT = "leave the column out with `map:`"


def _after_system(chat: list[dict[str, Any]], text: str, column: str) -> list[dict[str, Any]]:
    """The chat with the text as its system turn, unless it begins with that turn already.

    Raises:
        Unusable: the chat begins with another system turn.
    """
    if not chat or chat[0]["role"] != "system":
        return [{"role": "system", "content": text}, *chat]
    if said(chat[0]).strip() == text.strip():
        return chat
    raise Unusable(
        f"`{column}` says something else than the chat's own system turn; keep one of them:"
        f' `map: {{..., {column}: ""}}` leaves the column out'
    )


def require_question(row: Row, answers: tuple[str, ...]) -> None:
    """Check that a row without a `prompt` has no question in another column. Else the beginning
    that its answers share would be taken for the question.

    Raises:
        Unusable: it has one.
    """
    for column in _QUESTIONS:
        if row.get(column):
            sides = ", ".join(f'{name}: "{{{name}}}"' for name in answers)
            raise Unusable(
                f"no `prompt`; if `{column}` holds it, say so:"
                f' `map: {{prompt: "{{{column}}}", {sides}}}`'
            )


def template_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that the chat template reads besides the turns: tools, documents, options.

    Raises:
        Unusable: one of them is not of the type that it must have.
    """
    columns: dict[str, Any] = {}
    tools = parsed(row.get("tools"), "tools")
    if not tools and row.get("functions"):  # as OpenAI wrote them before there were tools
        functions = parsed(row["functions"], "functions")
        if not is_table(functions):
            raise Unusable("`functions` is no list of functions")
        tools = [{"type": "function", "function": function} for function in functions]
    if tools:
        if not is_table(tools):
            raise Unusable("`tools` is no list of tools")
        columns["tools"] = list(tools)
    if row.get("documents"):
        if not is_table(row["documents"]):
            raise Unusable("`documents` is no list of documents")
        columns["documents"] = list(row["documents"])
    options = row.get("chat_template_kwargs")
    if options:
        if not isinstance(options, Mapping):
            raise Unusable("`chat_template_kwargs` is no mapping")
        columns["chat_template_kwargs"] = dict(options)
    return columns
