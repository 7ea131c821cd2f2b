"""Locates the turns of a chat in its rendered text, all at once if possible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError

from harness.data.chat import Message, Span, render, span_of

_FEW = 3
"""Up to so many turns are located one by one, each by one rendering."""
_PLAIN = frozenset({"role", "content", "weight"})
_MARK = "Qx7"


@dataclass(frozen=True)
class RenderedChat:
    """A chat and the text that its template makes of it.

    Attributes:
        asks: whether the text ends by asking for an answer (`add_generation_prompt`).
        template_kwargs: what the template reads besides the messages (`tools` ...).
    """

    tokenizer: Any
    messages: Sequence[Message]
    text: str
    asks: bool = False
    template_kwargs: Mapping[str, Any] | None = None

    def span(self, place: int) -> Span | None:
        """The span of the message at index `place`; None if the template leaves it out."""
        if place in self._plain:
            return self._plain[place]
        return span_of(
            self.tokenizer,
            self.messages,
            place,
            self.text,
            asks=self.asks,
            template_kwargs=self.template_kwargs,
        )

    @cached_property
    def _plain(self) -> Mapping[int, Span]:
        """The spans of the turns that hold only words, by one rendering of the chat with a mark in
        place of each turn's words. Empty if that rendering with the words put back is not the text.
        """
        words = {i: m["content"] for i, m in enumerate(self.messages) if _says_words(m)}
        if len(words) <= _FEW or _MARK in self.text:
            return {}
        marks = {i: f"{_MARK}{i}{_MARK[::-1]}" for i in words}
        marked = [{**m, "content": marks.get(i, m.get("content"))}
                  for i, m in enumerate(self.messages)]  # fmt: skip
        try:
            other = render(
                self.tokenizer,
                marked,
                add_generation_prompt=self.asks,
                template_kwargs=self.template_kwargs,
            )
        except TemplateError:  # the template refuses the marks as words
            return {}
        spans: dict[int, Span] = {}
        in_text = in_other = 0  # how far both texts have been compared
        for i, mark in marks.items():
            place = other.find(mark, in_other)
            between = other[in_other:place] if place >= 0 else _MARK
            begin = in_text + len(between)
            form = next((w for w in _forms(words[i]) if self.text.startswith(w, begin)), None)
            if form is None or not self.text.startswith(between, in_text):
                return {}
            spans[i] = begin, begin + len(form)
            in_text, in_other = spans[i][1], place + len(mark)
        return spans if self.text[in_text:] == other[in_other:] else {}


def _says_words(message: Message) -> bool:
    words = message.get("content")
    return isinstance(words, str) and bool(words.strip()) and message.keys() <= _PLAIN


def _forms(words: str) -> Iterator[str]:
    """The forms in which templates write words: unchanged, or trimmed."""
    yield words
    yield words.strip()
    yield words.rstrip()
    yield words.lstrip()
