"""Chats as people write them, in the one form that chat templates read.

A message of the normal form has a `role` (user, assistant, system or tool) and a `content` that is
a string, and may have `tool_calls`, `reasoning_content` or `thinking`, the `name` and
`tool_call_id` of a tool's answer, and `weight: 0`, which means that it is not trained on.
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
"""What people call who speaks -> what chat templates call it."""
_CALLS = ("function_call", "tool_call")
"""Who speaks in a message of sharegpt that is nothing but a call, written as JSON."""
_KEPT = ("name", "tool_call_id", "reasoning_content", "reasoning", "thinking")
_SHOWN = 30
"""Characters of a role that a message about it quotes."""


def messages(value: Any, column: str, *, ends: str | None) -> Chat:
    """A chat in its normal form.

    Args:
        value: messages of role and content, or of from and value; one message alone counts too.
        ends: the role of its last turn; None for any.

    Raises:
        Unusable: with the reason.
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
    """The row with the roles of its messages by another name, as a split's `roles:` says."""

    def named(message: Any) -> Any:
        if not isinstance(message, Mapping):
            return message
        told = {k: roles.get(message[k], message[k]) for k in ("role", "from")
                if isinstance(message.get(k), str)}  # fmt: skip
        return {**message, **told}

    return {
        name: [named(message) for message in value] if isinstance(value, list) else value
        for name, value in row.items()
    }


def require_trained(chat: Chat) -> Chat:
    """The chat, where some turn of its assistant is trained on."""
    own = [message for message in chat if message["role"] == "assistant"]
    if own and all(message.get("weight") == 0 for message in own):
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
    found: dict[str, Any] = {"role": _role(name)}
    calls = _calls(message)
    text = _text(value, column)
    if text is None and not calls:
        raise Unusable(f"a message of `{column}` lacks its text")
    found["content"] = text or ""
    found |= {key: message[key] for key in _KEPT if message.get(key) is not None}
    if calls:
        found["tool_calls"] = calls
    if _weight(message.get("weight")) == 0:
        found["weight"] = 0
    return found


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
    """A message's text, its parts one after another; None where there is none."""
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
    """The calls of a message, in the form of OpenAI's `tool_calls`."""
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
    """Calls that stand as JSON in a message's text: one, or a list of them."""
    try:
        found = json.loads(value)
    except (TypeError, ValueError):
        raise Unusable("a function call is no JSON") from None
    made = [{"type": "function", "function": call} for call in _listed(found)]
    return _calls({"tool_calls": made})


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def parsed(value: Any, column: str) -> Any:
    """A list, which some data sets write as JSON.

    Raises:
        Unusable: a text that is no JSON.
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
    """Whether it is a list of mappings, as tools and messages are."""
    return isinstance(value, Sequence) and all(isinstance(item, Mapping) for item in value)


def _weight(value: Any) -> int:
    """1 for a turn that is trained on, 0 for one that is not (OpenAI's fine-tuning format)."""
    if value is None:
        return 1
    if isinstance(value, int | float) and value in (0, 1):
        return int(value)
    raise Unusable("a message's `weight` is neither 0 nor 1")


def prompt_of(row: Mapping[str, Any], column: str = "prompt") -> Any:
    """A prompt as it stands: text, or messages.

    Raises:
        Unusable: it is none, or has a second half, as alpaca's `input`, that nothing joins to it.
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
    """An answer in the form its prompt has: of a chat, without the prompt's turns where it repeats
    them."""
    if isinstance(like, str):
        return string(row, column)
    value = row.get(column)
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    found = messages(value, column, ends="assistant")
    repeats = len(found) > len(like) and found[: len(like)] == like
    return found[len(like) :] if repeats else found
