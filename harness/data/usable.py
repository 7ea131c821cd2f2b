"""Rows that a chat template cannot write as they are meant: it refuses them, or drops a turn."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from harness.data.cells import said
from harness.data.chat import Message, render, template_options
from harness.data.chat_spans import Written
from harness.data.encode import Encoded
from harness.data.render import encoded, template_given, trained_length, turns_of

Row = Mapping[str, Any]
Shape = tuple[Any, ...]
_LONGEST = 160
"""Characters of a template's own words that a reason quotes."""
_WRITTEN: weakref.WeakKeyDictionary[Any, set[Shape]] = weakref.WeakKeyDictionary()
"""Tokenizer -> shapes of chats of which its template is known to write every turn."""


def unrenderable(tokenizer: Any, row: Row) -> str | None:
    """Why the tokenizer's chat template cannot write a row as it is meant; None where it can.

    It refuses the row (a system turn, roles that do not alternate), or leaves out what a turn says.
    Rows of plain text need no template. Of a preference or a ranking every answer must do.
    """
    if turns_of(row) is None or not tokenizer.chat_template:
        return None
    given = template_given(row)
    for chat, asks in _chats(row):
        try:
            text = render(tokenizer, chat, add_generation_prompt=asks, given=given)
            dropped = _dropped(tokenizer, chat, text, given, asks=asks)
        except TemplateError as error:
            return refusal(error)
        if dropped is not None:
            return f"the chat template leaves out a turn of role {chat[dropped]['role']}"
    return None


def trained(tokenizer: Any, row: Row) -> tuple[Encoded, int] | str:
    """A row's tokens as they are trained on and their number (of a preference or ranking that of
    the longest answer); or why there are none."""
    reason = unrenderable(tokenizer, row)
    if reason is not None:
        return reason
    try:
        found = encoded(tokenizer, row)
        return found, trained_length(tokenizer, row, found.ids)
    except TemplateError as error:
        return refusal(error)


def refusal(error: TemplateError) -> str:
    """A template's refusal of a row as a reason."""
    told = " ".join(str(error).split())
    return f"the chat template refuses it: {told[:_LONGEST]}"


def _chats(row: Row) -> Iterator[tuple[list[Message], bool]]:
    """Every chat that a row is trained on or asked, and whether it ends by asking."""
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
    tokenizer: Any, chat: Sequence[Message], text: str, given: Mapping[str, Any], *, asks: bool
) -> int | None:
    """The place of the first turn whose words the template leaves out; None where it has all.

    Templates trim what a turn says, and cut its thinking, so that only what changes with the turn
    tells. That costs one more rendering a turn: it is asked once for chats of one shape, and for
    turns whose words do not stand in the text as they are.
    """
    shape = _shape(tokenizer, chat, given, asks=asks)
    known = _WRITTEN.setdefault(tokenizer, set())
    written, at = Written(tokenizer, chat, text, asks, given), 0
    for place, message in enumerate(chat):
        words = said(message).strip()
        if not words:
            continue
        found = text.find(words, at)
        unsure = found < 0 or shape not in known
        if unsure and written.span(place) is None:
            return place
        at = max(at, found)
    known.add(shape)
    return None


def _shape(
    tokenizer: Any, chat: Sequence[Message], given: Mapping[str, Any], *, asks: bool
) -> Shape:
    turns = tuple((m["role"], *sorted(k for k in m if m[k]), bool(said(m).strip())) for m in chat)
    by = json.dumps([tokenizer.chat_template, template_options(tokenizer)], default=str)
    return turns, tuple(sorted(given)), asks, by
