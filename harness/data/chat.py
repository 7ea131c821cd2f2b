"""Renders chats with a chat template, and locates each turn in the rendered text.

Templates rewrite messages: they trim them, cut the thinking from earlier turns, or merge the system
turn into the user's turn. So nothing here searches for a message's words. A turn is located by
rendering the chat twice, the second time with other words in that turn, and comparing the texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from jinja2.exceptions import TemplateError

Message = Mapping[str, Any]
Span = tuple[int, int]
"""The index of the first character, and the index after the last one."""
Result = TypeVar("Result")
_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")
_FIXED = frozenset({"role", "name", "tool_call_id", "id", "type", "weight"})
"""Keys of a message that say who speaks. The other keys hold what is said."""


def render(
    tokenizer: Any,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The text that the tokenizer's chat template makes of a chat.

    Args:
        template_kwargs: what the template reads besides the messages, such as `tools`, `documents`
            or `enable_thinking`. It overrides the tokenizer's own `chat_template_kwargs` (see
            ModelRef.tokenizer).

    Raises:
        TemplateError: the template refuses the chat.
    """
    return _apply(tokenizer, messages, add_generation_prompt, template_kwargs)


def _apply(
    tokenizer: Any,
    messages: Sequence[Message],
    asks: bool,
    template_kwargs: Mapping[str, Any] | None,
) -> str:
    options = template_options(tokenizer, template_kwargs)
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


def _in_some_form(messages: Sequence[Message], write: Callable[[list[Message]], Result]) -> Result:
    """The result of `write` on the chat. If the template refuses the arguments of its tool calls as
    they are, they are tried as JSON, then as a mapping.

    Raises:
        TemplateError: the template refuses all three forms; the message is about the first.
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


def template_options(
    tokenizer: Any, template_kwargs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The keyword arguments of a template: those of the tokenizer, overridden by
    `template_kwargs`."""
    return {**(getattr(tokenizer, "chat_template_kwargs", None) or {}), **(template_kwargs or {})}


def _arguments_as(messages: Sequence[Message], form: Callable[[Any], Any]) -> list[Message]:
    """The chat with the arguments of every tool call in another form. Some templates need a dict,
    others JSON."""
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
    arguments = call["arguments"]
    fits = isinstance(arguments, str) if form is _loaded else not isinstance(arguments, str)
    return {**call, "arguments": form(arguments)} if fits else call


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def marked(
    tokenizer: Any,
    messages: Sequence[Message],
    template_kwargs: Mapping[str, Any] | None,
    *,
    asks: bool = False,
) -> list[Span] | None:
    """The spans between the template's `{% generation %}` markers; None if it has no markers."""
    template = tokenizer.get_chat_template(tools=(template_kwargs or {}).get("tools"))
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
            **{**options, **template_options(tokenizer, template_kwargs)},
        )
        return [tuple(span) for span in spans[0]]

    return _in_some_form(chat, write)


def other_words(message: Message) -> dict[str, Any]:
    """The message with other words in place of all its words."""
    replaced = {
        key: value if key in _FIXED or key == "tool_calls" else _other(value)
        for key, value in message.items()
    }
    if not message.get("tool_calls"):
        return replaced if replaced != message else {**replaced, "content": "xxx"}
    replaced["tool_calls"] = [_called_otherwise(call) for call in message["tool_calls"]]
    return replaced


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
    """The tool call with other arguments (at least one), which differ from the first to the last.

    The function's name stays: some templates repeat it beside the tool's answer.
    """
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _called_otherwise(call["function"])}
    arguments = call.get("arguments")
    if isinstance(arguments, str) and arguments.strip():
        inside = _loaded(arguments)
        replaced = _other(arguments) if isinstance(inside, str) else json.dumps(_more(inside))
        return {**call, "arguments": replaced}
    return {**call, "arguments": _more(arguments)}


def _more(arguments: Any) -> Any:
    """Other arguments, with one more at each end, since some values (booleans) are not replaced."""
    if isinstance(arguments, Mapping):
        return {"x": "x", **_other(arguments), "y": "y"}
    if isinstance(arguments, list):
        return ["x", *_other(arguments), "y"]
    return {"x": "x"} if arguments in (None, "") else _other(arguments)


def changed(text: str, other: str) -> Span | None:
    """The span of `text` that differs from `other`; None if the texts are equal."""
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
    template_kwargs: Mapping[str, Any] | None = None,
) -> Span | None:
    """The span of one message in the text of its chat; None if the template leaves it out.

    Args:
        place: the index of the message.
        text: the rendered chat.
        asks: whether the text was rendered with `add_generation_prompt`.
    """
    other = [*messages[:place], other_words(messages[place]), *messages[place + 1 :]]
    return changed(
        text, render(tokenizer, other, add_generation_prompt=asks, template_kwargs=template_kwargs)
    )
