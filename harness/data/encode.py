"""One way from texts to tokens, for training, generation, scoring and `harness data`.

The tokens that a model is asked at generation are those that stood before the answer in training,
row by row: a prompt is encoded without looking at its answer, and the answer goes on from there.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_ANCHORS = ("\n", ")", "a")
"""Texts that seldom join what follows them into one token."""


@dataclass(frozen=True)
class Encoded:
    """A row as tokens.

    Attributes:
        ids: of the whole row, as it is trained on.
        trained: for each of them, whether it is of an answer: what an assistant's turn says, and
            the token that ends the turn; all of a text.
        prompt: how many of them a model is asked at generation; 0 for a text.
        end: where the last answer ends, its end of turn included; a template may write more.
        rejoined: the template writes this chat otherwise than it asks for its answer, so that the
            ids are those of what it asks, and then the answer.
    """

    ids: list[int]
    trained: list[bool]
    prompt: int
    end: int
    rejoined: bool = False

    @property
    def answer(self) -> list[int]:
        """The tokens that a model must give after the prompt."""
        return self.ids[self.prompt : self.end]


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """The number of tokens that two sequences begin with alike."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """A text to go on from: with the tokenizer's beginning, once, and without its end."""
    begins = _frame(tokenizer)
    ids = bare_ids(tokenizer, text)
    return ids if ids[: len(begins)] == begins else [*begins, *ids]


def ended(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """The tokens with the end-of-sequence token last, once."""
    end = tokenizer.eos_token_id
    return list(ids) if end is None or list(ids[-1:]) == [end] else [*ids, end]


def bare_ids(tokenizer: Any, text: str) -> list[int]:
    """A text's tokens alone, without those that a tokenizer adds."""
    return list(tokenizer(text=text, add_special_tokens=False)["input_ids"]) if text else []


_FRAMES: weakref.WeakKeyDictionary[Any, tuple[Any, list[int]]] = weakref.WeakKeyDictionary()


def _frame(tokenizer: Any) -> list[int]:
    """The tokens that a tokenizer adds before a text, such as BOS."""
    options = (getattr(tokenizer, "add_bos_token", None), tokenizer.bos_token_id)
    known = _FRAMES.get(tokenizer)
    if known is None or known[0] != options:
        bare, framed = bare_ids(tokenizer, "a"), list(tokenizer(text="a")["input_ids"])
        places = range(len(framed) - len(bare) + 1)
        start = next((i for i in places if framed[i : i + len(bare)] == bare), 0)
        known = _FRAMES[tokenizer] = (options, framed[:start])
    return known[1]


def open_prompt(tokenizer: Any, prompt: str) -> str:
    """A prompt without the spaces at its end that an answer's first token would swallow.

    They then begin the answer, as lm-eval has it. What the answer says does not matter: it is not
    known at generation.
    """
    while prompt and prompt[-1].isspace():
        ids = bare_ids(tokenizer, prompt)
        if bare_ids(tokenizer, prompt + "a")[: len(ids)] == ids:
            break
        prompt = prompt[:-1]
    return prompt


def after_prompt(tokenizer: Any, prompt: str, raw: str) -> str:
    """What follows a prompt of plain text, of an answer that begins with the prompt's own spaces
    where they were left for it (see `open_prompt`)."""
    return raw.removeprefix(prompt[len(open_prompt(tokenizer, prompt) or prompt) :])


def prompt_text_ids(tokenizer: Any, prompt: str) -> list[int]:
    """What a model is asked to go on from, of a prompt that is plain text."""
    return text_ids(tokenizer, open_prompt(tokenizer, prompt) or prompt)


def cut_left(tokenizer: Any, ids: list[int], most: int) -> list[int]:
    """The last `most` tokens of a prompt, the token that begins every sequence kept."""
    begins = ids[:1] if tokenizer.bos_token_id is not None and most > 1 else []
    begins = begins if begins == [tokenizer.bos_token_id] else []
    return [*begins, *ids[len(ids) - most + len(begins) :]]


def answered_text(tokenizer: Any, prompt: str, answer: str) -> Encoded:
    """A prompt of plain text and its answer, which ends in the end-of-sequence token."""
    asked = open_prompt(tokenizer, prompt) or prompt
    head = text_ids(tokenizer, asked)
    ids = text_ids(tokenizer, prompt + answer)
    if ids[: len(head)] != head:
        ids = head + continued(tokenizer, prompt[len(asked) :] + answer)[0]
    ids = ended(tokenizer, ids)
    return Encoded(ids, [i >= len(head) for i in range(len(ids))], len(head), len(ids))


def whole_text(tokenizer: Any, text: str) -> Encoded:
    """A text, all of it trained on, ending in the end-of-sequence token."""
    ids = ended(tokenizer, text_ids(tokenizer, text))
    return Encoded(ids, [True] * len(ids), 0, len(ids))


def continued(tokenizer: Any, text: str) -> tuple[list[int], list[int] | None]:
    """The tokens of a text that goes on from another, and where each begins in it.

    Many tokenizers write a beginning otherwise than what follows, so it is encoded after something.
    """
    for anchor in _ANCHORS:
        head, (ids, starts) = bare_ids(tokenizer, anchor), located(tokenizer, anchor + text)
        if ids[: len(head)] == head and (
            starts is None or len(ids) == len(head) or starts[len(head)] >= len(anchor)
        ):
            kept = None if starts is None else [start - len(anchor) for start in starts]
            return ids[len(head) :], None if kept is None else kept[len(head) :]
    return located(tokenizer, text)


def located(tokenizer: Any, text: str) -> tuple[list[int], list[int] | None]:
    """A text's bare tokens, and the character each begins at; None where the tokenizer is slow."""
    if not text:
        return [], []
    if not tokenizer.is_fast:
        return bare_ids(tokenizer, text), None
    found = tokenizer(text=text, add_special_tokens=False, return_offsets_mapping=True)
    starts, before = [], 0
    for start, stop in found["offset_mapping"]:
        # Some tokenizers leave a token's own space out of its place.
        spaces = start > before and not text[before:start].strip(" ")
        starts.append(before if spaces else start)
        before = max(before, stop)
    return list(found["input_ids"]), starts
