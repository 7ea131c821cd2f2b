"""Sampling in which each request has a seed of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


_STEPS = 64
"""Of which the random numbers are drawn at once; how many changes none of them."""


def seed_of(base: int, example: str, number: int) -> int:
    """The seed of one sample of one example, 63 bits: alike on every machine and in any batch."""
    text = f"{base}\0{example}\0{number}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def sampler(seeds: Sequence[int], temperature: float, top_p: float) -> Any:
    """A logits processor that draws each row's token and leaves no other to choose.

    One uniform number a row and step, from the row's own generator, is looked up in the cumulated
    probabilities; so a row draws the same whatever stands beside it, and when others end.
    transformers' own sampling draws for the whole batch from one generator.
    """
    import torch
    from transformers import LogitsProcessor

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    class Sampler(LogitsProcessor):
        def __init__(self) -> None:
            self.draws, self.used = torch.empty(len(generators), 0), 0

        def next_draws(self, device: Any) -> Any:
            """Uniform numbers, (rows, 1), of the next step; moved to a GPU many steps at once, as
            each move waits for it."""
            if self.used == self.draws.shape[1]:
                fresh = [torch.rand(_STEPS, generator=g, dtype=torch.float64) for g in generators]
                self.draws, self.used = torch.stack(fresh).to(device), 0
            self.used += 1
            return self.draws[:, self.used - 1 : self.used]

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            """Scores (rows, vocabulary) with 0 at the sampled token and -inf elsewhere."""
            likely = (scores.double() / temperature).softmax(-1)
            reached = running_sum(nucleus(likely, top_p) if top_p < 1 else likely)
            wanted = self.next_draws(scores.device) * reached[:, -1:]
            # The first whose cumulated probability exceeds the number: never one of probability 0.
            token = torch.searchsorted(reached, wanted, right=True).clamp(max=scores.shape[1] - 1)
            return torch.full_like(scores, -torch.inf).scatter_(-1, token, 0.0)

    return Sampler()


def running_sum(values: Tensor) -> Tensor:
    """Cumulated over the last axis; in one order each time where torch is asked for that, which a
    GPU has none for (torch.use_deterministic_algorithms)."""
    import torch

    if values.is_cuda and torch.are_deterministic_algorithms_enabled():
        return values.cpu().cumsum(-1).to(values.device)
    return values.cumsum(-1)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Probabilities (rows, vocabulary) of the likeliest tokens that together reach top_p, others 0.

    Holtzman et al. (2020, arXiv:1904.09751), section 3.1; not normalised again.
    """
    import torch

    ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
    before = running_sum(ordered) - ordered
    return torch.zeros_like(probabilities).scatter_(-1, index, ordered * (before < top_p))
