"""Chats as a template writes them: the text, and where each answer begins and ends in it.

Templates rewrite messages: they trim them, cut the thinking from earlier turns, merge a system turn
into the user's. So nothing here searches for a message's words. A turn is found by what changes in
the text when the turn alone says something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from jinja2.exceptions import TemplateError

Message = Mapping[str, Any]
Span = tuple[int, int]
Written = TypeVar("Written")
"""First character, and the one after the last."""
_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")
_FIXED = frozenset({"role", "name", "tool_call_id", "id", "type", "weight"})
"""Keys of a message that say who speaks, not what."""


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    given: Mapping[str, Any] | None = None,
) -> str:
    """The text of a chat by the tokenizer's template.

    Args:
        given: what else the template reads, such as `tools`, `documents` or `enable_thinking`; the
            tokenizer's own `chat_template_kwargs` (see ModelRef.tokenizer) stand behind it.

    Raises:
        TemplateError: the template does not take the chat.
    """
    return _apply(tokenizer, messages, add_generation_prompt, given)


def _apply(
    tokenizer: Any, messages: Sequence[Message], asks: bool, given: Mapping[str, Any] | None
) -> str:
    options = template_options(tokenizer, given)
    messages = [{k: v for k, v in message.items() if k != "weight"} for message in messages]
    # A template may concatenate a token that the tokenizer does not have.
    missing = {name: "" for name in _SPECIAL if getattr(tokenizer, name, None) is None}

    def write(form: list[Message]) -> str:
        return str(
            tokenizer.apply_chat_template(
                form, tokenize=False, add_generation_prompt=asks, **{**missing, **options}
            )
        )

    return _in_some_form(messages, write)


def _in_some_form(
    messages: Sequence[Message], write: Callable[[list[Message]], Written]
) -> Written:
    """What `write` makes of the chat, with its tool calls' arguments in the first form that the
    template takes: as they are given, as JSON, or as a mapping.

    Raises:
        TemplateError: it takes none of them; with the words about the first.
    """
    failure: Exception | None = None
    for form in (messages, _arguments_as(messages, json.dumps), _arguments_as(messages, _loaded)):
        if failure is not None and form == list(messages):
            continue
        try:
            return write(list(form))
        except TemplateError as error:
            failure = failure or error
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            failure = failure or error
    raise TemplateError(str(failure)) from failure


def template_options(tokenizer: Any, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a template is given beside the messages."""
    return {**(getattr(tokenizer, "chat_template_kwargs", None) or {}), **(given or {})}


def _arguments_as(messages: Sequence[Message], form: Callable[[Any], Any]) -> list[Message]:
    """The chat with every tool call's arguments in another form: templates want a dict, or JSON."""
    return [
        {**message, "tool_calls": [_called(call, form) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in messages
    ]


def _called(call: Any, form: Callable[[Any], Any]) -> Any:
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _called(call["function"], form)}
    if "arguments" not in call:
        return call
    given = call["arguments"]
    fits = isinstance(given, str) if form is _loaded else not isinstance(given, str)
    return {**call, "arguments": form(given)} if fits else call


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def marked(
    tokenizer: Any,
    messages: Sequence[Message],
    given: Mapping[str, Any] | None,
    *,
    asks: bool = False,
) -> list[Span] | None:
    """The spans that the template's `{% generation %}` markers enclose; None without markers."""
    template = tokenizer.get_chat_template(tools=(given or {}).get("tools"))
    if not _MARKERS.search(template):
        return None
    from transformers.utils.chat_template_utils import render_jinja_template

    options = {**dict.fromkeys(_SPECIAL, ""), **tokenizer.special_tokens_map}
    chat = [{k: v for k, v in message.items() if v is not None} for message in messages]

    def write(form: list[Message]) -> list[Span]:
        _, spans = render_jinja_template(
            [form],
            chat_template=template,
            return_assistant_tokens_mask=True,
            add_generation_prompt=asks,
            **{**options, **template_options(tokenizer, given)},
        )
        return [tuple(span) for span in spans[0]]

    return _in_some_form(chat, write)


def other_words(message: Message) -> dict[str, Any]:
    """The message, saying something else in every place where it says anything."""
    made = {
        key: value if key in _FIXED or key == "tool_calls" else _other(value)
        for key, value in message.items()
    }
    if not message.get("tool_calls"):
        return made if made != message else {**made, "content": "xxx"}
    made["tool_calls"] = [_called_otherwise(call) for call in message["tool_calls"]]
    return made


def _other(value: Any) -> Any:
    if isinstance(value, str):
        bare = value.strip()
        if not bare:
            return value
        letter = next(x for x in "xyz" if x not in (bare[0], bare[-1]))
        return letter * 3
    if isinstance(value, Mapping):
        return {k: v if k == "type" else _other(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_other(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 7 if value != 7 else 8
    return value


def _called_otherwise(call: Any) -> Any:
    """The call with other arguments, from the first to the last, of which there is one at least.

    Never by another name: some templates write a call's name again beside what the tool answered.
    """
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _called_otherwise(call["function"])}
    given = call.get("arguments")
    if isinstance(given, str) and given.strip():
        inside = _loaded(given)
        told = _other(given) if isinstance(inside, str) else json.dumps(_more(inside))
        return {**call, "arguments": told}
    return {**call, "arguments": _more(given)}


def _more(arguments: Any) -> Any:
    """Other arguments, and more of them at both ends: truth values, say, stay as they are."""
    if isinstance(arguments, Mapping):
        return {"x": "x", **_other(arguments), "y": "y"}
    if isinstance(arguments, list):
        return ["x", *_other(arguments), "y"]
    return {"x": "x"} if arguments in (None, "") else _other(arguments)


def changed(text: str, other: str) -> Span | None:
    """What of `text` is not in `other`; None where they are equal."""
    if text == other:
        return None
    shortest = min(len(text), len(other))
    start = next((i for i in range(shortest) if text[i] != other[i]), shortest)
    same = next(
        (i for i in range(shortest - start) if text[-1 - i] != other[-1 - i]), shortest - start
    )
    return start, len(text) - same


def span_of(
    tokenizer: Any,
    messages: Sequence[Message],
    place: int,
    text: str,
    *,
    asks: bool = False,
    given: Mapping[str, Any] | None = None,
) -> Span | None:
    """Where a message stands in its chat's text; None where the template leaves it out."""
    other = [*messages[:place], other_words(messages[place]), *messages[place + 1 :]]
    return changed(text, render(tokenizer, other, add_generation_prompt=asks, given=given))
