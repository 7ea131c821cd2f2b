"""Converts chats, however they are written, into the form that chat templates read.

A message in normal form has a `role` (user, assistant, system or tool) and a `content`, which is a
string. It may have `tool_calls`, `reasoning_content` or `thinking`, the `name` and `tool_call_id`
of a tool's answer, and `weight: 0`, which means that it is not trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.data.cells import Unusable, string

Chat = list[dict[str, Any]]
_NAMES = {
    "user": ("user", "human", "prompter", "question", "instruction"),
    "assistant": ("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot", "ai", "chatbot",
                  "claude", "llm"),
    "system": ("system", "developer"),
    "tool": ("tool", "function", "ipython", "observation", "environment", "tool_response",
             "tool_result", "function_response"),
}  # fmt: skip
ROLES = {name: role for role, names in _NAMES.items() for name in names}
"""Name of a speaker in data sets -> role in chat templates."""
_CALLS = ("function_call", "tool_call")
"""Speakers of sharegpt messages that hold only a tool call, written as JSON."""
_KEPT = ("name", "tool_call_id", "reasoning_content", "reasoning", "thinking")
_SHOWN = 30
"""The number of characters to which a role is shortened in a message."""


def messages(value: Any, column: str, *, ends: str | None) -> Chat:
    """A chat in its normal form.

    Args:
        value: messages with role and content, or with from and value; or a single message.
        column: the column's name, for the reason.
        ends: the role that the last turn must have; None for any.

    Raises:
        Unusable: it is not a chat, or a message of it cannot be used.
    """
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise Unusable(f"`{column}` is no list of messages")
    chat = [_message(message, column) for message in value]
    if ends is not None and chat[-1]["role"] != ends:
        raise Unusable(f"`{column}` does not end with the {ends}")
    return chat


def with_roles(row: Mapping[str, Any], roles: Mapping[str, str]) -> dict[str, Any]:
    """The row with the roles of its messages renamed as the split's `roles:` says."""

    def named(message: Any) -> Any:
        if not isinstance(message, Mapping):
            return message
        renamed = {k: roles.get(message[k], message[k]) for k in ("role", "from")
                if isinstance(message.get(k), str)}  # fmt: skip
        return {**message, **renamed}

    return {
        name: [named(message) for message in value] if isinstance(value, list) else value
        for name, value in row.items()
    }


def require_trained(chat: Chat) -> Chat:
    """The chat, unchanged.

    Raises:
        Unusable: every turn of the assistant has `weight: 0`.
    """
    turns = [message for message in chat if message["role"] == "assistant"]
    if turns and all(message.get("weight") == 0 for message in turns):
        raise Unusable("every turn of the assistant has `weight: 0`")
    return chat


def _message(message: Any, column: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise Unusable(f"`{column}` is no list of messages")
    name = message.get("role") if message.get("role") is not None else message.get("from")
    value = message.get("content") if message.get("content") is not None else message.get("value")
    if not isinstance(name, str):
        raise Unusable(f"a message of `{column}` lacks its role")
    if name.strip().lower() in _CALLS:
        return {"role": "assistant", "content": "", "tool_calls": _written_calls(value)}
    turn: dict[str, Any] = {"role": _role(name)}
    calls = _calls(message)
    text = _text(value, column)
    if text is None and not calls:
        raise Unusable(f"a message of `{column}` lacks its text")
    turn["content"] = text or ""
    turn |= {key: message[key] for key in _KEPT if message.get(key) is not None}
    if calls:
        turn["tool_calls"] = calls
    if _weight(message.get("weight")) == 0:
        turn["weight"] = 0
    return turn


def _role(name: str) -> str:
    role = ROLES.get(name.strip().lower())
    if role is None:
        shown = name if len(name) <= _SHOWN else name[:_SHOWN] + "..."
        raise Unusable(
            f"a role is {shown!r}, and chat templates know user, assistant, system and tool; say"
            f" which one it is: `roles: {{{shown!r}: user}}`"
        )
    return role


def _text(value: Any, column: str) -> str | None:
    """The text of a message, with its parts joined; None if it has no text."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, Sequence):
        raise Unusable(f"a message of `{column}` is no text")
    return "".join(_part(part, column) for part in value)


def _part(part: Any, column: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        kind = str(part.get("type") or "text")
        text = part.get("text")
        if kind in ("text", "input_text", "output_text") and isinstance(text, str):
            return text
        raise Unusable(f"a message of `{column}` has a part that is no text ({kind[:_SHOWN]})")
    raise Unusable(f"a message of `{column}` has a part that is no text")


def _calls(message: Mapping[str, Any]) -> list[Any]:
    """The tool calls of a message, in the form of OpenAI's `tool_calls`."""
    calls = parsed(message.get("tool_calls"), "tool_calls")
    if not calls and message.get("function_call") is not None:
        calls = [{"type": "function", "function": message["function_call"]}]
    if not calls:
        return []
    if not is_table(calls) or any(not _named(call) for call in calls):
        raise Unusable("`tool_calls` is no list of calls with a name each")
    return list(calls)


def _named(call: Mapping[str, Any]) -> bool:
    function = call.get("function", call)
    return isinstance(function, Mapping) and isinstance(function.get("name"), str)


def _written_calls(value: Any) -> list[Any]:
    """Tool calls that are written as JSON in a message's text: one call, or a list."""
    try:
        functions = json.loads(value)
    except (TypeError, ValueError):
        raise Unusable("a function call is no JSON") from None
    calls = [{"type": "function", "function": call} for call in _listed(functions)]
    return _calls({"tool_calls": calls})


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def parsed(value: Any, column: str) -> Any:
    """The value of a column. If it is a string, the value that it encodes as JSON.

    Raises:
        Unusable: it is a string and not JSON.
    """
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except ValueError:
        raise Unusable(f"`{column}` is no JSON") from None


def is_table(value: Any) -> bool:
    """True if the value is a list of mappings, as tools and messages are."""
    return isinstance(value, Sequence) and all(isinstance(item, Mapping) for item in value)


def _weight(value: Any) -> int:
    """1 if a turn is trained on, 0 if it is not (as in OpenAI's fine-tuning format)."""
    if value is None:
        return 1
    if isinstance(value, int | float) and value in (0, 1):
        return int(value)
    raise Unusable("a message's `weight` is neither 0 nor 1")


def prompt_of(row: Mapping[str, Any], column: str = "prompt") -> Any:
    """The prompt of a row: a string, or a list of messages.

    Raises:
        Unusable: the column holds no prompt; or the row has an `input` beside it, as in alpaca,
            that `map:` does not join to it.
    """
    value = row.get(column)
    if isinstance(value, list):
        return messages(value, column, ends=None)
    more = str(row.get("input") or "")
    if more.strip() and more != value:
        raise Unusable(
            f"`input` is not read beside `{column}`: join them, `map: {{{column}:"
            f' "{{{column}}}\\n\\n{{input}}", ...}}`, or leave it out with `map:`'
        )
    return string(row, column)


def side(row: Mapping[str, Any], column: str, like: Any) -> Any:
    """An answer in the form of its prompt: a string or a list of messages. If it repeats the
    prompt's turns, they are removed.

    Args:
        like: the prompt.
    """
    if isinstance(like, str):
        return string(row, column)
    value = row.get(column)
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    answer = messages(value, column, ends="assistant")
    repeats = len(answer) > len(like) and answer[: len(like)] == like
    return answer[len(like) :] if repeats else answer
