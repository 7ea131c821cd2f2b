"""One way from chats to tokens, with what the assistant says and the ends of its turns marked."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.data import chat, chat_style
from harness.data.chat import Message, Span
from harness.data.chat_spans import Written
from harness.data.chat_style import Style
from harness.data.chat_turns import turn
from harness.data.encode import Encoded, bare_ids, common_prefix, continued, located


def chat_prompt_ids(
    tokenizer: Any, messages: Sequence[Message], given: Mapping[str, Any] | None = None
) -> list[int]:
    """What a model is asked to go on from, of a chat."""
    text = chat.render(tokenizer, messages, add_generation_prompt=True, given=given)
    return bare_ids(tokenizer, text)


@dataclass(frozen=True)
class _Placed:
    """A text's tokens with the places of its characters among them."""

    tokenizer: Any
    text: str
    ids: list[int]
    starts: list[int] | None
    prompt: int
    """Tokens of the prompt."""
    asked: int
    """Characters of the prompt."""

    def first(self, place: int) -> int:
        """The first token of what begins at a character: it may hold spaces before that, as where a
        header ends in a space which the first word of the turn takes into its token."""
        after = self.after(place)
        if place == self.asked or self.starts is None or not 0 < after <= len(self.starts):
            return after
        begins = self.starts[after - 1]
        own = after < len(self.starts) and self.starts[after] == place
        return after if own or self.text[begins:place].strip() else after - 1

    def after(self, place: int) -> int:
        """The first token that begins at a character or after it."""
        if place == self.asked:
            return self.prompt
        if self.starts is not None:
            return bisect.bisect_left(self.starts, place)
        return common_prefix(bare_ids(self.tokenizer, self.text[:place]), self.ids)


def answered_chat(
    tokenizer: Any,
    asked: Sequence[Message],
    answered: Sequence[Message],
    given: Mapping[str, Any] | None = None,
    *,
    every_turn: bool,
) -> Encoded:
    """A chat and its answer, by the tokenizer's template.

    Args:
        asked: the turns that a model is asked after.
        answered: the assistant's turn, or several with what its tools said between.
        given: what else the template reads (`tools` ...).
        every_turn: train on the assistant's earlier turns too. A turn of `weight: 0` is not.

    Raises:
        TemplateError: the template refuses the chat, or leaves out a turn of the assistant.
    """
    style = chat_style.style_of(tokenizer)
    prompt = chat.render(tokenizer, asked, add_generation_prompt=True, given=given)
    text, spans, end, ends, rejoined = _answer(tokenizer, style, asked, answered, given, prompt)
    if every_turn:
        spans = [*_earlier(tokenizer, style, asked, given, prompt), *spans]
    placed = _place(tokenizer, text, prompt)
    ids, trained = list(placed.ids), [False] * len(placed.ids)
    for start, stop in spans:
        for i in range(placed.first(start), min(placed.after(stop), len(ids))):
            trained[i] = True
    stop = placed.after(end)
    closing = None if ends else _closing(tokenizer, style, answered[-1])
    if closing is not None:
        ids, trained = [*ids[:stop], closing], [*trained[:stop], _trained(answered[-1])]
        stop += 1
    return Encoded(ids, trained, placed.prompt, stop, rejoined)


def _place(tokenizer: Any, text: str, prompt: str) -> _Placed:
    """The tokens of a text that begin with the tokens of its prompt."""
    head = bare_ids(tokenizer, prompt)
    ids, starts = located(tokenizer, text)
    if ids[: len(head)] != head:
        first = located(tokenizer, prompt)[1]
        tail, places = continued(tokenizer, text[len(prompt) :])
        ids = head + tail
        if first is not None and places is not None:
            starts = first + [len(prompt) + place for place in places]
    return _Placed(tokenizer, text, ids, starts, len(head), len(prompt))


def _closing(tokenizer: Any, style: Style, last: Message) -> int | None:
    """The token that ends an answer whose template writes none after it: the one that opens what
    comes next, where turns end so; else the end of a text."""
    token = (style.calls if last.get("tool_calls") else "") or style.ends
    if token:
        return int(tokenizer.convert_tokens_to_ids(token))
    return None if style.closes else tokenizer.eos_token_id


def _trained(message: Message) -> bool:
    return message["role"] == "assistant" and message.get("weight") != 0


def _earlier(
    tokenizer: Any,
    style: Style,
    asked: Sequence[Message],
    given: Mapping[str, Any] | None,
    prompt: str,
) -> list[Span]:
    """Where the assistant's turns stand in the text of a prompt."""
    spans: list[Span] = []
    markers = chat.marked(tokenizer, asked, given, asks=True) if _any_trained(asked) else None
    written, before = Written(tokenizer, asked, prompt, asks=True, given=given), 0
    for place, message in enumerate(asked):
        if message["role"] != "assistant":
            continue
        start, said, stop = turn(style, written, place, before)
        before = stop
        if _trained(message):
            spans += _within(markers, start, said, stop)
    return spans


def _any_trained(messages: Sequence[Message]) -> bool:
    return any(map(_trained, messages))


def _within(markers: Sequence[Span] | None, start: int, said: int, stop: int) -> list[Span]:
    """What of a turn is trained on: all, or what markers enclose of it and its end of turn."""
    if markers is None:
        return [(start, stop)]
    inside = [(max(a, start), min(b, said)) for a, b in markers if a < said and b > start]
    return [*inside, (said, stop)] if inside else []


def _answer(
    tokenizer: Any,
    style: Style,
    asked: Sequence[Message],
    answered: Sequence[Message],
    given: Mapping[str, Any] | None,
    prompt: str,
) -> tuple[str, list[Span], int, bool, bool]:
    """The text of a chat with its answer, which begins with the prompt's; where it is trained on;
    where the last answer ends; whether the template ends it; and whether it writes the prompt
    otherwise before the answer, which is then joined to it."""
    messages = [*asked, *answered]
    whole = chat.render(tokenizer, messages, given=given)
    written = Written(tokenizer, messages, whole, given=given)
    markers = chat.marked(tokenizer, messages, given)
    # A header that a prompt does not ask with (Gemma's, after a tool's result) is left out.
    repeated = bool(style.asks) and whole.startswith(style.asks, len(prompt))
    joined = whole.startswith(prompt) and not repeated
    text, shift, spans = whole, 0, list[Span]()
    before, end, ends = len(prompt) if joined else 0, len(whole), True
    for place in range(len(asked), len(messages)):
        if messages[place]["role"] != "assistant":
            continue
        begins = len(prompt) if place == len(asked) and joined else None
        start, said, stop = turn(style, written, place, before, begins)
        if place == len(asked) and not joined:
            text, shift = _rejoined(whole, start, said, prompt, messages[place])
            start, markers = len(prompt) - shift, None
        before, ends = stop, stop > said
        if place + 1 == len(messages) and not ends:
            stop = max(stop, len(whole.rstrip()))  # such as the mark that closes a tool call
        if _trained(messages[place]):
            inside = _within(markers, start, said, stop)
            spans += [(a + shift, b + shift) for a, b in inside]
        end = stop + shift
    return text, spans, end, ends, not joined


def _rejoined(whole: str, start: int, said: int, prompt: str, message: Message) -> tuple[str, int]:
    """Prompt and answer as one text, where a template writes the turns before an answer otherwise
    than when it asks for that answer; and how far the answer moved.

    A thought that the prompt opens is closed (DeepSeek-R1's template cuts the thought from answers,
    and its prompt ends in `<think>`); one that the prompt has closed is left out.
    """
    answer, begins = whole[start:said], ""
    opened, closed = chat_style.open_thought(prompt), chat_style.closed_thought(prompt)
    if opened and f"</{opened}>" not in answer:
        begins = f"{chat_style.thought_of(message, opened)}\n</{opened}>\n\n"
        answer = answer.lstrip("\n")
    elif closed and f"</{closed}>" in answer:
        answer = answer.rpartition(f"</{closed}>")[2].lstrip("\n")
    text = prompt + begins + answer + whole[said:]
    return text, len(text) - len(whole)
