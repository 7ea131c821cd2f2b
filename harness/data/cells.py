"""Cells of raw rows: texts and messages, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Chat = list[dict[str, str]]
ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
}
"""How sharegpt and hh_rlhf name who speaks, and what that is in a chat template."""


class Unusable(Exception):
    """A row that cannot be brought into its layout; the message is the reason it is counted by."""


def string(row: Mapping[str, Any], column: str) -> str:
    """A cell as text; Unusable where it holds none."""
    value = row.get(column)
    if value is None:
        raise Unusable(f"no `{column}`")
    if isinstance(value, list | dict):
        raise Unusable(f"`{column}` is no text")
    return str(value)


def messages(value: Any, column: str, *, ends: str | None) -> Chat:
    """A chat of role and content, or of from and value; `ends`: the role of its last turn."""
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise Unusable(f"`{column}` is no list of messages")
    chat = []
    for message in value:
        if not isinstance(message, Mapping):
            raise Unusable(f"`{column}` is no list of messages")
        role = message.get("role") or ROLES.get(str(message.get("from")), message.get("from"))
        content = message.get("content", message.get("value"))
        if not isinstance(role, str) or not isinstance(content, str):
            raise Unusable(f"a message of `{column}` lacks its role or its text")
        if "from" in message and message["from"] not in ROLES:
            raise Unusable(f"a role of `{column}` is none of {', '.join(ROLES)}")
        chat.append({"role": role, "content": content})
    if ends is not None and chat[-1]["role"] != ends:
        raise Unusable(f"`{column}` does not end with the {ends}")
    return chat


def prompt_of(row: Mapping[str, Any], column: str = "prompt") -> Any:
    """A prompt as it stands: text, or messages."""
    value = row.get(column)
    return messages(value, column, ends=None) if isinstance(value, list) else string(row, column)


def side(row: Mapping[str, Any], column: str, like: Any) -> Any:
    """An answer in the form its prompt has."""
    if isinstance(like, str):
        return string(row, column)
    value = row.get(column)
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    return messages(value, column, ends="assistant")


def content(value: Any) -> str:
    """A string, or what the last message of a chat says."""
    return value if isinstance(value, str) else str(value[-1]["content"]) if value else ""
