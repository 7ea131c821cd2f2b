"""Where the turns of a chat stand in its text, all of them found at once where that is plain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError

from harness.data.chat import Message, Span, render, span_of

_FEW = 3
"""Turns that are as well looked for one by one: each costs a rendering."""
_PLAIN = frozenset({"role", "content", "weight"})
_MARK = "Qx7"


@dataclass(frozen=True)
class Written:
    """A chat as its template writes it.

    Attributes:
        asks: the text ends by asking for an answer.
        given: what else the template reads (`tools` ...).
    """

    tokenizer: Any
    messages: Sequence[Message]
    text: str
    asks: bool = False
    given: Mapping[str, Any] | None = None

    def span(self, place: int) -> Span | None:
        """Where a message stands; None where the template leaves it out."""
        if place in self._plain:
            return self._plain[place]
        return span_of(
            self.tokenizer, self.messages, place, self.text, asks=self.asks, given=self.given
        )

    @cached_property
    def _plain(self) -> Mapping[int, Span]:
        """Spans of the turns that say words alone, by one rendering of the chat with a mark in the
        place of each; none, unless the text is that rendering with the words as they are in it."""
        words = {i: m["content"] for i, m in enumerate(self.messages) if _says_words(m)}
        if len(words) <= _FEW or _MARK in self.text:
            return {}
        marks = {i: f"{_MARK}{i}{_MARK[::-1]}" for i in words}
        marked = [{**m, "content": marks.get(i, m.get("content"))}
                  for i, m in enumerate(self.messages)]  # fmt: skip
        try:
            other = render(
                self.tokenizer, marked, add_generation_prompt=self.asks, given=self.given
            )
        except TemplateError:  # it minds what is said
            return {}
        found: dict[int, Span] = {}
        read = told = 0
        for i, mark in marks.items():
            place = other.find(mark, told)
            between = other[told:place] if place >= 0 else _MARK
            begin = read + len(between)
            own = next((w for w in _forms(words[i]) if self.text.startswith(w, begin)), None)
            if own is None or not self.text.startswith(between, read):
                return {}
            found[i] = begin, begin + len(own)
            read, told = found[i][1], place + len(mark)
        return found if self.text[read:] == other[told:] else {}


def _says_words(message: Message) -> bool:
    words = message.get("content")
    return isinstance(words, str) and bool(words.strip()) and message.keys() <= _PLAIN


def _forms(words: str) -> Iterator[str]:
    """Words as templates write them: some trim them."""
    yield words
    yield words.strip()
    yield words.rstrip()
    yield words.lstrip()
