"""Answers sampled from the policy."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.inference.continuous import Prompt
from harness.inference.decoding import answer
from harness.inference.sampling import sampled


@dataclass(frozen=True)
class Rollouts:
    """Sampled answers, in the order of their prompts.

    Attributes:
        prompts: token ids.
        answers: token ids, including the end-of-sequence token if there is one.
        finished: whether each answer ended with such a token.
    """

    prompts: list[list[int]]
    answers: list[list[int]]
    finished: list[bool]

    @property
    def tokens(self) -> int:
        """Number of tokens in prompts and answers."""
        return sum(map(len, self.prompts)) + sum(map(len, self.answers))


@dataclass(frozen=True)
class Sampling:
    """Options of the sampling.

    Attributes:
        eos: all tokens that end an answer.
        pad: the padding token.
        batch_tokens: padded tokens in one batch, including `max_new_tokens` for each answer.
    """

    eos: frozenset[int]
    pad: int
    max_new_tokens: int
    temperature: float
    top_p: float
    batch_tokens: int


def derived_seed(*parts: int | str) -> int:
    """A seed of 63 bits derived from a path of numbers and names; the same on every machine."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def drawn(rows: int, size: int, step: int, seed: int) -> list[int]:
    """Indexes of the rows of a step (counted from 0).

    Each epoch passes over all rows in a new random order.

    Args:
        rows: number of rows.
        size: number of rows in a step.
    """
    indexes: list[int] = []
    first, last = step * size, (step + 1) * size
    for epoch in range(first // rows, (last - 1) // rows + 1):
        order = list(range(rows))
        random.Random(derived_seed("order", seed, epoch)).shuffle(order)
        indexes += order[max(0, first - epoch * rows) : last - epoch * rows]
    return indexes


def sample(
    model: Any, prompts: Sequence[list[int]], seeds: Sequence[int], how: Sampling
) -> Rollouts:
    """Sample one answer to each prompt.

    An answer depends on its prompt, its seed and the model. The other rows of its batch can change
    only the rounding of its logits.
    """
    asked = [
        Prompt(prompt, how.max_new_tokens, seed=seed)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    choose = partial(sampled, temperature=how.temperature, top_p=how.top_p)
    answers = answer(model, asked, how.batch_tokens, how.eos, how.pad, choose)
    finished = [tokens[-1] in how.eos for tokens in answers]
    return Rollouts(list(prompts), answers, finished)
