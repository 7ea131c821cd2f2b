"""From generated tokens to an answer: where it ends, and what of it was thinking.

Marks such as `<think>` are marks only to a model that knows them; to any other they are words of
its answer. A model knows a family's marks where its chat template has either of them, or, of
`<think>`, where its tokenizer has it as a token of its own; for one prompt, where that ends in the
mark. `thinking: strip` says of every model that it knows `<think>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TAIL = 32
"""Tokens at a prompt's end in which a template may open the thinking."""
MARKS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("to=self<|message|>", "to=user<|message|>"),
)
"""How families begin and end their thinking: Qwen, DeepSeek, GLM and others; Magistral; Command;
Gemma 4; gpt-oss and Muse, which go from one channel to another."""
THINK = MARKS[0]


@dataclass(frozen=True)
class Answer:
    """One generated answer.

    Attributes:
        text: what is scored: without thinking where that is stripped, without spaces at its ends.
        finish: `eos`, `stop` (a stop string) or `length` (cut at max_new_tokens).
        tokens: tokens generated, the one that ends the answer included.
        raw: the text with the spaces at its ends: what follows a prompt of plain text.
        generated: all that was generated, where thinking was taken out of the text.
    """

    text: str
    finish: str
    tokens: int
    raw: str = ""
    generated: str = ""


class Reader:
    """Reads the rows of one request.

    Args:
        eos: tokens that end an answer. pad: fills up what ended early.
        options: `until` (stop strings) and `thinking`: `auto` takes it out of the text of a model
            that knows it, and stop strings in it stop nothing; `strip` takes `<think>` out of any
            model's; `keep` (the default) leaves the text as it is.
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
        """The mark by which a prompt's own end begins the thinking; empty where it does not."""
        if not self._may_open:
            return ""
        tail = self.tokenizer.decode(list(prompt[-_TAIL:]), skip_special_tokens=False).rstrip()
        return next((begin for begin, _ in self._may_open if tail.endswith(begin)), "")

    def read(self, ids: Sequence[int], opened: str = "") -> Answer:
        """The answer that a row of generated tokens is.

        Args:
            opened: what `opened` says of its prompt.
        """
        end = next((i for i, token in enumerate(ids) if token in self.eos), None)
        own = list(ids[:end])
        text = self.tokenizer.decode(own, skip_special_tokens=True)
        # With its special tokens: they may be marks of thinking, or stop strings.
        full = self.tokenizer.decode(own, skip_special_tokens=False)
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
            while own and own[-1] == self.pad:
                own.pop()
            whole = self.tokenizer.decode(own, skip_special_tokens=False)
            return Answer(shown.strip(), finish, len(own) + (finish == "eos"), shown, whole)
        if stopped:
            tokens = len(self.tokenizer(text=shown, add_special_tokens=False)["input_ids"])
        else:
            tokens = len(ids) if end is None else end + 1
        return Answer(shown.strip(), finish, tokens, shown)

    def stops(self, ids: Sequence[int], opened: str) -> bool:
        """Whether the tokens so far hold a stop string that ends the answer."""
        return self.read(ids, opened).finish == "stop"

    def _without_thinking(self, full: str, opened: str) -> str:
        said = opened + full
        own = [mark for mark in self._may_open if mark in self._marks or mark[0] == opened]
        for begin, end in own:
            if begin not in said and end not in said:
                continue
            said = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", "", said, flags=re.DOTALL)
            said = said.rpartition(end)[2]  # begun before the answer, or by no mark at all
            said = said.partition(begin)[0]  # cut before it ended
        return said


def known_marks(tokenizer: Any) -> list[tuple[str, str]]:
    """The marks of thinking that a model knows, by its chat template and its vocabulary."""
    template = str(tokenizer.chat_template or "")
    found = [mark for mark in MARKS[1:] if mark[0] in template]
    own = any(mark in template for mark in THINK) or THINK[0] in tokenizer.get_vocab()
    return [THINK, *found] if own else found


def first(text: str, strings: Sequence[str]) -> int | None:
    """Where the first of some strings begins in a text."""
    return min((at for string in strings if (at := text.find(string)) >= 0), default=None)


def _specials(tokenizer: Any) -> list[str]:
    """The special tokens as text, the longest first."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    found = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)
    return sorted(found, key=lambda token: (-len(token), token))
