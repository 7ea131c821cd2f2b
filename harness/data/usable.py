"""Detects rows that a chat template refuses, or of which it leaves out a turn."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from harness.data.cells import said
from harness.data.chat import Message, render, template_options
from harness.data.chat_spans import RenderedChat
from harness.data.encode import Encoded
from harness.data.render import encoded, template_kwargs_of, trained_length, turns_of
from harness.data.row import Row

Shape = tuple[Any, ...]
_LONGEST = 160
"""The number of characters that a reason quotes of a template's message."""
_WRITTEN: weakref.WeakKeyDictionary[Any, set[Shape]] = weakref.WeakKeyDictionary()
"""Tokenizer -> shapes of chats of which its template wrote every turn."""


def unrenderable(tokenizer: Any, row: Row) -> str | None:
    """The reason why the tokenizer's chat template cannot render a row; None if it can.

    The template may refuse the row (a system turn, roles that do not alternate), or leave out a
    turn. Rows of plain text need no template. Of a preference or a ranking, every answer is
    checked.
    """
    if turns_of(row) is None or not tokenizer.chat_template:
        return None
    template_kwargs = template_kwargs_of(row)
    for chat, asks in _chats(row):
        try:
            text = render(
                tokenizer, chat, add_generation_prompt=asks, template_kwargs=template_kwargs
            )
            dropped = _dropped(tokenizer, chat, text, template_kwargs, asks=asks)
        except TemplateError as error:
            return refusal(error)
        if dropped is not None:
            return f"the chat template leaves out a turn of role {chat[dropped]['role']}"
    return None


def trained(tokenizer: Any, row: Row) -> tuple[Encoded, int] | str:
    """A row's tokens in training and their number (of a preference or ranking, the number for the
    longest answer); or the reason why the row cannot be rendered."""
    reason = unrenderable(tokenizer, row)
    if reason is not None:
        return reason
    try:
        tokens = encoded(tokenizer, row)
        return tokens, trained_length(tokenizer, row, tokens.ids)
    except TemplateError as error:
        return refusal(error)


def refusal(error: TemplateError) -> str:
    """The reason for which a template refused a row."""
    words = " ".join(str(error).split())
    return f"the chat template refuses it: {words[:_LONGEST]}"


def _chats(row: Row) -> Iterator[tuple[list[Message], bool]]:
    """All chats that are rendered for a row, and whether each is a prompt."""
    if "messages" in row:
        yield list(row["messages"][:-1]), True
        yield list(row["messages"]), False
        return
    prompt = list(row["prompt"])
    yield prompt, True
    answers = [row[name] for name in ("completion", "chosen", "rejected") if row.get(name)]
    for answer in [*answers, *row.get("responses", ())]:
        yield [*prompt, *answer], False


def _dropped(
    tokenizer: Any,
    chat: Sequence[Message],
    text: str,
    template_kwargs: Mapping[str, Any],
    *,
    asks: bool,
) -> int | None:
    """The index of the first turn whose words the template leaves out; None if it leaves out none.

    Templates trim words and cut thoughts, so a turn is only known to be there if the text changes
    with its words. This costs one rendering a turn. It is done once for all chats of one shape, and
    for turns whose words are not in the text unchanged.
    """
    shape = _shape(tokenizer, chat, template_kwargs, asks=asks)
    known = _WRITTEN.setdefault(tokenizer, set())
    rendered, at = RenderedChat(tokenizer, chat, text, asks, template_kwargs), 0
    for place, message in enumerate(chat):
        words = said(message).strip()
        if not words:
            continue
        start = text.find(words, at)
        unsure = start < 0 or shape not in known
        if unsure and rendered.span(place) is None:
            return place
        at = max(at, start)
    known.add(shape)
    return None


def _shape(
    tokenizer: Any, chat: Sequence[Message], template_kwargs: Mapping[str, Any], *, asks: bool
) -> Shape:
    turns = tuple((m["role"], *sorted(k for k in m if m[k]), bool(said(m).strip())) for m in chat)
    by = json.dumps([tokenizer.chat_template, template_options(tokenizer)], default=str)
    return turns, tuple(sorted(template_kwargs)), asks, by
