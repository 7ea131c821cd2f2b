"""Encodes texts as tokens, in the same way for training, generation, scoring and `harness data`.

For each row, the prompt's tokens at generation are the tokens before the answer in training: a
prompt is encoded without its answer, and the answer's tokens follow.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_ANCHORS = ("\n", ")", "a")
"""Texts that tokenizers seldom join with the following text into one token."""


@dataclass(frozen=True)
class Encoded:
    """A row as tokens.

    Attributes:
        ids: the tokens of the whole row, as in training.
        trained: for each token, whether it belongs to an answer: to the words of an assistant's
            turn or its end-of-turn token. True for every token of a plain text.
        prompt: the number of tokens of the prompt at generation; 0 for a text.
        end: the number of tokens up to the end of the last answer, with its end-of-turn token; the
            template may write more tokens after it.
        rejoined: True if the template writes the turns before the answer in another way than in a
            prompt. The ids are then those of the prompt, followed by those of the answer.
    """

    ids: list[int]
    trained: list[bool]
    prompt: int
    end: int
    rejoined: bool = False

    @property
    def answer(self) -> list[int]:
        """The tokens that a model must generate after the prompt."""
        return self.ids[self.prompt : self.end]


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """The length of the common prefix of two sequences."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text that will be continued: with the tokenizer's BOS token (once), without
    its EOS token."""
    begins = _frame(tokenizer)
    ids = bare_ids(tokenizer, text)
    return ids if ids[: len(begins)] == begins else [*begins, *ids]


def ended(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """The tokens with the EOS token at the end, once; unchanged if the tokenizer has none."""
    end = tokenizer.eos_token_id
    return list(ids) if end is None or list(ids[-1:]) == [end] else [*ids, end]


def bare_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text, without the special tokens that the tokenizer adds."""
    return list(tokenizer(text=text, add_special_tokens=False)["input_ids"]) if text else []


_FRAMES: weakref.WeakKeyDictionary[Any, tuple[Any, list[int]]] = weakref.WeakKeyDictionary()


def _frame(tokenizer: Any) -> list[int]:
    """The special tokens that a tokenizer adds before a text, such as BOS."""
    options = (getattr(tokenizer, "add_bos_token", None), tokenizer.bos_token_id)
    known = _FRAMES.get(tokenizer)
    if known is None or known[0] != options:
        bare, framed = bare_ids(tokenizer, "a"), list(tokenizer(text="a")["input_ids"])
        places = range(len(framed) - len(bare) + 1)
        start = next((i for i in places if framed[i : i + len(bare)] == bare), 0)
        known = _FRAMES[tokenizer] = (options, framed[:start])
    return known[1]


def open_prompt(tokenizer: Any, prompt: str) -> str:
    """The prompt without the spaces at its end that the answer's first token would include.

    The answer then begins with them, as in lm-eval. The words of the answer do not matter, since
    they are not known at generation.
    """
    while prompt and prompt[-1].isspace():
        ids = bare_ids(tokenizer, prompt)
        if bare_ids(tokenizer, prompt + "a")[: len(ids)] == ids:
            break
        prompt = prompt[:-1]
    return prompt


def after_prompt(tokenizer: Any, prompt: str, raw: str) -> str:
    """The answer without the prompt's last spaces, which `open_prompt` left to it.

    Args:
        raw: the generated text.
    """
    return raw.removeprefix(prompt[len(open_prompt(tokenizer, prompt) or prompt) :])


def prompt_text_ids(tokenizer: Any, prompt: str) -> list[int]:
    """The tokens of a plain-text prompt, which a model continues."""
    return text_ids(tokenizer, open_prompt(tokenizer, prompt) or prompt)


def cut_left(tokenizer: Any, ids: list[int], most: int) -> list[int]:
    """The last `most` tokens of a prompt. If it begins with BOS, that token is kept as one of
    them."""
    begins = ids[:1] if tokenizer.bos_token_id is not None and most > 1 else []
    begins = begins if begins == [tokenizer.bos_token_id] else []
    return [*begins, *ids[len(ids) - most + len(begins) :]]


def answered_text(tokenizer: Any, prompt: str, answer: str) -> Encoded:
    """A plain-text prompt and its answer, which ends with the EOS token."""
    asked = open_prompt(tokenizer, prompt) or prompt
    head = text_ids(tokenizer, asked)
    ids = text_ids(tokenizer, prompt + answer)
    if ids[: len(head)] != head:
        ids = head + continued(tokenizer, prompt[len(asked) :] + answer)[0]
    ids = ended(tokenizer, ids)
    return Encoded(ids, [i >= len(head) for i in range(len(ids))], len(head), len(ids))


def whole_text(tokenizer: Any, text: str) -> Encoded:
    """A text that ends with the EOS token; all its tokens are trained on."""
    ids = ended(tokenizer, text_ids(tokenizer, text))
    return Encoded(ids, [True] * len(ids), 0, len(ids))


def continued(tokenizer: Any, text: str) -> tuple[list[int], list[int] | None]:
    """The tokens of a text that continues another one, and the index of each token's first
    character in the text (None if the tokenizer is slow).

    Many tokenizers encode the beginning of a text in a special way, so the text is encoded behind a
    short anchor, which is then removed.
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
    """The tokens of a text without special tokens, and the index of each token's first character
    (None if the tokenizer is slow)."""
    if not text:
        return [], []
    if not tokenizer.is_fast:
        return bare_ids(tokenizer, text), None
    encoding = tokenizer(text=text, add_special_tokens=False, return_offsets_mapping=True)
    starts, before = [], 0
    for start, stop in encoding["offset_mapping"]:
        # Some tokenizers leave a token's leading space out of its offsets.
        spaces = start > before and not text[before:start].strip(" ")
        starts.append(before if spaces else start)
        before = max(before, stop)
    return list(encoding["input_ids"]), starts
