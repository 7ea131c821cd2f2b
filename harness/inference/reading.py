"""Turns generated tokens into an answer: finds its end and removes the model's thinking.

Marks such as `<think>` count as marks only for a model that knows them; in the answer of another
model they are text. A model knows a family's marks if its chat template contains the first of them.
It knows `<think>` if its chat template contains either mark or its tokenizer has `<think>` as one
token. If a prompt ends in a mark, the model knows it for this prompt. With `thinking: strip` every
model is taken to know `<think>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TAIL = 32
"""Number of tokens at a prompt's end that are searched for a mark that begins the thinking."""
MARKS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("to=self<|message|>", "to=user<|message|>"),
)
"""The marks that begin and end the thinking: Qwen, DeepSeek, GLM and others; Magistral; Command;
Gemma 4; gpt-oss and Muse, which change from one channel to another."""
THINK = MARKS[0]


@dataclass(frozen=True)
class Answer:
    """One generated answer.

    Attributes:
        text: the text that is scored, without spaces at its ends and, where thinking is stripped,
            without thinking.
        finish: `eos`, `stop` (a stop string) or `length` (cut at max_new_tokens).
        tokens: number of generated tokens, including the one that ends the answer.
        raw: the text with the spaces at its ends, as it follows a prompt of plain text.
        generated: everything that was generated, if thinking was removed from the text; else "".
    """

    text: str
    finish: str
    tokens: int
    raw: str = ""
    generated: str = ""


class Reader:
    """Reads the generated rows of one request.

    Args:
        eos: tokens that end an answer.
        pad: the token after the end of an answer.
        options: `until` (stop strings) and `thinking`: `auto` removes the thinking of a model that
            knows its marks, and ignores stop strings within it; `strip` also removes `<think>` from
            every model's text; `keep` (the default) leaves the text as it is.
    """

    def __init__(
        self, tokenizer: Any, eos: frozenset[int], pad: int, options: Mapping[str, Any]
    ) -> None:
        self.tokenizer, self.eos, self.pad = tokenizer, eos, pad
        self.until: Sequence[str] = options["until"]
        special = _specials(tokenizer)
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")
        self._marked = [s for s in self.until if any(token in s for token in special)]
        how = options.get("thinking", "keep")
        self._marks = [] if how == "keep" else known_marks(tokenizer)
        if how == "strip" and THINK not in self._marks:
            self._marks.insert(0, THINK)
        self._may_open = [] if how == "keep" else [*dict.fromkeys([*self._marks, THINK])]

    def opened(self, prompt: Sequence[int]) -> str:
        """The mark at the end of a prompt that begins the thinking; "" if there is none."""
        if not self._may_open:
            return ""
        tail = self.tokenizer.decode(list(prompt[-_TAIL:]), skip_special_tokens=False).rstrip()
        return next((begin for begin, _ in self._may_open if tail.endswith(begin)), "")

    def read(self, ids: Sequence[int], opened: str = "") -> Answer:
        """Read the answer in a row of generated tokens.

        Args:
            opened: the result of the method `opened` for the row's prompt.
        """
        end = next((i for i, token in enumerate(ids) if token in self.eos), None)
        answer_ids = list(ids[:end])
        text = self.tokenizer.decode(answer_ids, skip_special_tokens=True)
        # Keep special tokens here: they may be marks of thinking, or stop strings.
        full = self.tokenizer.decode(answer_ids, skip_special_tokens=False)
        said = self._without_thinking(full, opened)
        thought = said != full
        cut = first(said, self._marked)
        if cut is not None:
            said = said[:cut]
        shown = text if said == full else self._special.sub("", said)
        plain = first(shown, self.until)
        shown = shown[:plain]
        stopped = cut is not None or plain is not None
        finish = "stop" if stopped else "length" if end is None else "eos"
        if thought:
            while answer_ids and answer_ids[-1] == self.pad:
                answer_ids.pop()
            whole = self.tokenizer.decode(answer_ids, skip_special_tokens=False)
            return Answer(shown.strip(), finish, len(answer_ids) + (finish == "eos"), shown, whole)
        if stopped:
            tokens = len(self.tokenizer(text=shown, add_special_tokens=False)["input_ids"])
        else:
            tokens = len(ids) if end is None else end + 1
        return Answer(shown.strip(), finish, tokens, shown)

    def stops(self, ids: Sequence[int], opened: str) -> bool:
        """Whether the tokens so far hold a stop string that ends the answer."""
        return self.read(ids, opened).finish == "stop"

    def _without_thinking(self, full: str, opened: str) -> str:
        marks = [mark for mark in self._may_open if mark in self._marks or mark[0] == opened]
        return without_thinking(opened + full, marks)


def without_thinking(text: str, marks: Sequence[tuple[str, str]] = MARKS) -> str:
    """The text without what stands between these marks, in whichever of them it is: without what
    precedes the last end, and without what follows a beginning that has no end."""
    for begin, end in marks:
        if begin in text or end in text:
            pair = f"{re.escape(begin)}.*?(?:{re.escape(end)}|\\Z)"
            text = re.sub(pair, "", text, flags=re.DOTALL)
            text = text.rpartition(end)[2]  # the thinking began without a mark
    return text


def known_marks(tokenizer: Any) -> list[tuple[str, str]]:
    """The marks of thinking that a model knows, judged by its chat template and vocabulary."""
    template = str(tokenizer.chat_template or "")
    marks = [mark for mark in MARKS[1:] if mark[0] in template]
    knows_think = any(mark in template for mark in THINK) or THINK[0] in tokenizer.get_vocab()
    return [THINK, *marks] if knows_think else marks


def first(text: str, strings: Sequence[str]) -> int | None:
    """Where the first of some strings begins in a text; None if it holds none of them."""
    return min((at for string in strings if (at := text.find(string)) >= 0), default=None)


def _specials(tokenizer: Any) -> list[str]:
    """The special tokens as text, longest first."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    tokens = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)
    return sorted(tokens, key=lambda token: (-len(token), token))
