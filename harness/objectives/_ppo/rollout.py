"""Answers sampled from the policy."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.inference.batches import budget_batches
from harness.inference.decoding import decode
from harness.inference.sampling import sampler


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
    answers: list[list[int]] = [[] for _ in prompts]
    room = how.max_new_tokens
    for batch in budget_batches([len(prompt) + room for prompt in prompts], how.batch_tokens):
        draw = sampler([seeds[i] for i in batch], how.temperature, how.top_p)
        with torch.no_grad():
            generated = decode(
                model, [prompts[i] for i in batch], how.eos, how.pad, room, draw=draw
            )
        for i, row in zip(batch, generated, strict=True):
            answers[i] = _until_end(row, how.eos)
    finished = [answer[-1] in how.eos for answer in answers]
    return Rollouts(list(prompts), answers, finished)


def _until_end(tokens: list[int], eos: frozenset[int]) -> list[int]:
    end = next((i for i, token in enumerate(tokens) if token in eos), len(tokens) - 1)
    return tokens[: end + 1]
