"""Encodes chats as tokens, and marks the tokens of the assistant's turns."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.data import chat, chat_style
from harness.data.chat import Message, Span
from harness.data.chat_spans import RenderedChat
from harness.data.chat_style import Style
from harness.data.chat_turns import turn
from harness.data.encode import Encoded, bare_ids, common_prefix, continued, located


def chat_prompt_ids(
    tokenizer: Any, messages: Sequence[Message], template_kwargs: Mapping[str, Any] | None = None
) -> list[int]:
    """The tokens of a chat as a prompt, which a model continues with the assistant's turn."""
    text = chat.render(
        tokenizer, messages, add_generation_prompt=True, template_kwargs=template_kwargs
    )
    return bare_ids(tokenizer, text)


@dataclass(frozen=True)
class _Placed:
    """The tokens of a text, with a mapping from characters to tokens."""

    tokenizer: Any
    text: str
    ids: list[int]
    starts: list[int] | None
    prompt: int
    """The number of the prompt's tokens."""
    asked: int
    """The number of the prompt's characters."""

    def first(self, place: int) -> int:
        """The index of the first token of the text that begins at a character. That token may hold
        spaces before the character: if a header ends in a space, the turn's first token has it."""
        after = self.after(place)
        if place == self.asked or self.starts is None or not 0 < after <= len(self.starts):
            return after
        begins = self.starts[after - 1]
        begins_here = after < len(self.starts) and self.starts[after] == place
        return after if begins_here or self.text[begins:place].strip() else after - 1

    def after(self, place: int) -> int:
        """The index of the first token that begins at a character or after it."""
        if place == self.asked:
            return self.prompt
        if self.starts is not None:
            return bisect.bisect_left(self.starts, place)
        return common_prefix(bare_ids(self.tokenizer, self.text[:place]), self.ids)


def answered_chat(
    tokenizer: Any,
    asked: Sequence[Message],
    answered: Sequence[Message],
    template_kwargs: Mapping[str, Any] | None = None,
    *,
    every_turn: bool,
) -> Encoded:
    """A chat and its answer, encoded with the tokenizer's chat template.

    Args:
        asked: the turns of the prompt.
        answered: the turns of the answer: one of the assistant, or several with the results of its
            tool calls between them.
        template_kwargs: what the template reads besides the turns (`tools` ...).
        every_turn: train on the assistant's earlier turns too. Turns with `weight: 0` are never
            trained on.

    Raises:
        TemplateError: the template refuses the chat, or leaves out a turn of the assistant.
    """
    style = chat_style.style_of(tokenizer)
    prompt = chat.render(
        tokenizer, asked, add_generation_prompt=True, template_kwargs=template_kwargs
    )
    text, spans, end, ends, rejoined = _answer(
        tokenizer, style, asked, answered, template_kwargs, prompt
    )
    if every_turn:
        spans = [*_earlier(tokenizer, style, asked, template_kwargs, prompt), *spans]
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
    """The tokens of a text, of which the first are exactly the tokens of its prompt."""
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
    """The id of the token that ends an answer after which the template writes no token: the
    template's end-of-turn token if it has one, else EOS; None if a text such as `### End` ends
    turns."""
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
    template_kwargs: Mapping[str, Any] | None,
    prompt: str,
) -> list[Span]:
    """The spans of the assistant's trained turns in the text of a prompt."""
    spans: list[Span] = []
    markers = (
        chat.marked(tokenizer, asked, template_kwargs, asks=True) if _any_trained(asked) else None
    )
    rendered, before = (
        RenderedChat(tokenizer, asked, prompt, asks=True, template_kwargs=template_kwargs),
        0,
    )
    for place, message in enumerate(asked):
        if message["role"] != "assistant":
            continue
        start, said, stop = turn(style, rendered, place, before)
        before = stop
        if _trained(message):
            spans += _within(markers, start, said, stop)
    return spans


def _any_trained(messages: Sequence[Message]) -> bool:
    return any(map(_trained, messages))


def _within(markers: Sequence[Span] | None, start: int, said: int, stop: int) -> list[Span]:
    """The spans of a turn that are trained on: all of it, or the parts between the template's
    markers and the end of the turn."""
    if markers is None:
        return [(start, stop)]
    inside = [(max(a, start), min(b, said)) for a, b in markers if a < said and b > start]
    return [*inside, (said, stop)] if inside else []


def _answer(
    tokenizer: Any,
    style: Style,
    asked: Sequence[Message],
    answered: Sequence[Message],
    template_kwargs: Mapping[str, Any] | None,
    prompt: str,
) -> tuple[str, list[Span], int, bool, bool]:
    """Renders a chat with its answer.

    Returns:
        The text, which begins with the prompt's text; the spans that are trained on; the index at
        which the last answer ends; whether the template writes a token that ends it; and whether
        prompt and answer had to be joined here (see `Encoded.rejoined`).
    """
    messages = [*asked, *answered]
    whole = chat.render(tokenizer, messages, template_kwargs=template_kwargs)
    rendered = RenderedChat(tokenizer, messages, whole, template_kwargs=template_kwargs)
    markers = chat.marked(tokenizer, messages, template_kwargs)
    # Some prompts lack a header that the whole chat has (Gemma's, after a tool's result).
    repeated = bool(style.asks) and whole.startswith(style.asks, len(prompt))
    joined = whole.startswith(prompt) and not repeated
    text, shift, spans = whole, 0, list[Span]()
    before, end, ends = len(prompt) if joined else 0, len(whole), True
    for place in range(len(asked), len(messages)):
        if messages[place]["role"] != "assistant":
            continue
        begins = len(prompt) if place == len(asked) and joined else None
        start, said, stop = turn(style, rendered, place, before, begins)
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
    """Joins prompt and answer, for a template that writes the turns before an answer in another way
    than in the prompt for it.

    If the prompt opens a thought, the answer closes it (the prompt of DeepSeek-R1's template ends
    in `<think>`, and the template cuts the thought from answers). If the prompt has closed a
    thought, the answer's thought is left out.

    Returns:
        The text, and by how many characters the end of the answer moved.
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
