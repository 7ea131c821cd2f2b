"""How a chat template writes an assistant's turn: the text that asks for it, and the token that
ends it. Both are learnt from the template, by rendering chats of one word.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2.exceptions import TemplateError

from harness.data.chat import Message, render, span_of, template_options


@dataclass(frozen=True)
class Style:
    """What a template writes before and after answers, learnt by rendering chats of one word.

    Attributes:
        asks: the text that asks for an answer (`add_generation_prompt`).
        ends: the text of the token that ends an answer; "" if there is no such token.
        closes: the text that ends an answer if no token does, such as `### End`.
        calls: the token that ends a turn of tool calls; "" if it is not known.
        tokens: matches the tokenizer's added tokens in a text.
    """

    asks: str
    ends: str
    closes: str
    calls: str
    tokens: re.Pattern[str]


_STYLES: weakref.WeakKeyDictionary[Any, dict[str, Style]] = weakref.WeakKeyDictionary()
_SYSTEM: Message = {"role": "system", "content": "x"}
_USER, _ANSWER = {"role": "user", "content": "x"}, {"role": "assistant", "content": "zz"}
_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "call00001", "type": "function",
         "function": {"name": "look", "arguments": {"place": "zz"}}}
    ],
}  # fmt: skip
_TOOL = {"role": "tool", "name": "look", "tool_call_id": "call00001", "content": "x"}


def style_of(tokenizer: Any) -> Style:
    """How the tokenizer's template writes answers.

    Raises:
        TemplateError: the template refuses a chat of one question and one answer.
    """
    key = json.dumps([tokenizer.chat_template, template_options(tokenizer)], default=str)
    known = _STYLES.setdefault(tokenizer, {})
    if key not in known:
        known[key] = _learnt(tokenizer)
    return known[key]


def _learnt(tokenizer: Any) -> Style:
    tokens, before = _added(tokenizer), list[Message]()
    try:
        last = _tail(tokenizer, [_USER, _ANSWER], 1)
    except TemplateError:  # some want a system turn
        before = [_SYSTEM]
        last = _tail(tokenizer, [*before, _USER, _ANSWER], 2)
    try:
        followed = _tail(tokenizer, [*before, _USER, _ANSWER, _USER], len(before) + 1)
    except TemplateError:
        followed = last
    marks = list(tokens.finditer(last))
    shared = [m for m in marks if followed.startswith(last[: m.end()])]
    end = shared[-1] if shared else marks[0] if marks else None
    closes = "" if end else last.rstrip()
    if end is None and not closes:  # the token that opens the next turn ends this one
        end = tokens.search(followed)
    ends = end.group() if end else ""
    style = Style(_asking(tokenizer, tokens, before), ends, closes, "", tokens)
    return replace(style, calls=_call_end(tokenizer, style, before))


def _call_end(tokenizer: Any, style: Style, before: Sequence[Message]) -> str:
    """The token that ends a turn of tool calls, before their results; "" if the template has none.

    It may differ from the token that ends other turns: gpt-oss has `<|call|>`, GLM
    `<|observation|>`.
    """
    chat: list[Message] = [*before, _USER, _CALL, _TOOL]
    try:
        text = render(tokenizer, chat)
        places = (len(before) + 1, len(before) + 2)
        call, result = (span_of(tokenizer, chat, place, text) for place in places)
    except TemplateError:
        return ""
    if call is None or result is None or call[1] > result[0]:
        return ""
    start = turn_start(style, text, 0, call[0])
    stop = turn_end(style, text[: result[0]], start, call[1])
    marks = list(style.tokens.finditer(text, call[1], stop))
    return marks[-1].group() if marks else ""


def _added(tokenizer: Any) -> re.Pattern[str]:
    """Matches the added tokens, without those that are only white space (Gemma and Phi have
    some)."""
    added = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    marks = sorted((token for token in added if token.strip(" ▁\n\t\r")), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, marks)) or r"(?!)")


def _tail(tokenizer: Any, messages: Sequence[Message], place: int) -> str:
    """The text after a turn's words, up to the words of the next turn."""
    text = render(tokenizer, messages)
    span = span_of(tokenizer, messages, place, text)
    if span is None:
        raise TemplateError("the chat template leaves out the assistant's turns")
    after = None
    if place + 1 < len(messages):
        after = span_of(tokenizer, messages, place + 1, text)
    return text[span[1] : after[0] if after else None]


def _asking(tokenizer: Any, tokens: re.Pattern[str], before: Sequence[Message]) -> str:
    text = render(tokenizer, [*before, _USER], add_generation_prompt=True)
    bare = render(tokenizer, [*before, _USER])
    if text.startswith(bare):
        return text[len(bare) :]
    start = next((i for i, (a, b) in enumerate(zip(text, bare, strict=False)) if a != b), 0)
    inside = [m.start() for m in tokens.finditer(text) if m.start() < start < m.end()]
    return text[inside[0] if inside else start :]


def turn_start(style: Style, text: str, before: int, said: int) -> int:
    """The index of the character at which an assistant's turn begins, after its header: there a
    model that is asked for the turn begins to write.

    Args:
        before: the lowest index at which the header may begin.
        said: the index of the turn's first word.
    """
    first = style.tokens.match(style.asks)
    least = first.end() if first else len(style.asks.rstrip()) or 1
    for size in range(len(style.asks), least - 1, -1):
        place = text.rfind(style.asks[:size], before, said)
        if place >= 0 and not _inside(style, text, place, place + size):
            return place + size
    return said


def _inside(style: Style, text: str, start: int, place: int) -> bool:
    """Whether an index is inside one of the template's tokens. The search begins at `start`."""
    for mark in style.tokens.finditer(text, start):
        if mark.end() > place:
            return mark.start() < place
    return False


def turn_end(style: Style, text: str, start: int, stop: int) -> int:
    """The index of the character after a turn and its end-of-turn token.

    Args:
        text: the rendered chat, up to the words of the next message.
        start: where the turn begins.
        stop: where its words end.
    """
    if style.ends:
        place = text.find(style.ends, stop)
        if place >= 0:
            return place + len(style.ends)
    opened = {_stem(m.group()) for m in style.tokens.finditer(text, start, stop)}
    for mark in style.tokens.finditer(text, stop):
        token = mark.group()
        if not token.startswith("</") and _stem(token) not in opened:
            return mark.end()
    if style.closes and text.startswith(style.closes, stop):
        return stop + len(style.closes)
    return stop


def _stem(token: str) -> str:
    """A text that an opening token and its closing token share, and no other token."""
    letters = re.sub(r"[\W_]+", " ", token.replace("▁", " ")).split()
    kept = [word for word in letters if word.lower() not in ("start", "begin", "end")]
    return " ".join(kept) or token


def open_thought(prompt: str) -> str:
    """The tag that the end of a prompt opens, as in `<think>`; "" if it opens none."""
    match = re.search(r"<(\w+)>\s*\Z", prompt)
    return match[1] if match else ""


def closed_thought(prompt: str) -> str:
    """The tag of an empty thought at the end of a prompt, as in `<think></think>`; "" if there is
    none."""
    match = re.search(r"<(\w+)>\s*</\1>\s*\Z", prompt)
    return match[1] if match else ""


def thought_of(message: Message, tag: str) -> str:
    """The thinking before the answer of a turn; "" if there is none.

    Args:
        tag: the name of the tag around a thought, such as `think`.
    """
    for name in ("reasoning_content", "reasoning", "thinking"):
        if isinstance(message.get(name), str):
            return str(message[name]).strip("\n")
    content = message.get("content")
    if not isinstance(content, str) or f"</{tag}>" not in content:
        return ""
    return content.partition(f"</{tag}>")[0].rpartition(f"<{tag}>")[2].strip("\n")


def end_of_turn_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of the tokens with which the chat template ends an assistant's turn. Generation stops
    at them.

    Empty if the tokenizer has no template, or if the template ends turns without a token.
    """
    if not tokenizer.chat_template:
        return frozenset()
    try:
        style = style_of(tokenizer)
    except TemplateError:
        return frozenset()
    ends = {token for token in (style.ends, style.calls) if token}
    return frozenset(tokenizer.convert_tokens_to_ids(token) for token in ends)
