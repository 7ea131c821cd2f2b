"""Sampling with a separate seed for each request."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


_STEPS = 64
"""Number of steps whose random numbers are drawn at once; it does not change the numbers."""


def seed_of(base: int, example: str, number: int) -> int:
    """The seed of one sample of one example, 63 bits; the same on every machine and in every
    batch."""
    text = f"{base}\0{example}\0{number}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def sampler(seeds: Sequence[int], temperature: float, top_p: float) -> Any:
    """A logits processor that draws each row's next token and leaves only this token possible.

    For each row and step, one uniform number from the row's generator is looked up in the
    cumulative probabilities. So a row's tokens do not depend on the other rows of the batch, while
    transformers draws for the whole batch from one generator.
    """
    import torch
    from transformers import LogitsProcessor

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    class Sampler(LogitsProcessor):
        def __init__(self) -> None:
            self.draws, self.used = torch.empty(len(generators), 0), 0

        def next_draws(self, device: Any) -> Any:
            """Uniform numbers of the next step, (rows, 1). The numbers of many steps are moved to a
            GPU at once, as each move waits for the GPU."""
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
            # The first token whose cumulative probability exceeds the number; its own is never 0.
            token = torch.searchsorted(reached, wanted, right=True).clamp(max=scores.shape[1] - 1)
            return torch.full_like(scores, -torch.inf).scatter_(-1, token, 0.0)

    return Sampler()


def running_sum(values: Tensor) -> Tensor:
    """Cumulative sum over the last axis.

    Under torch.use_deterministic_algorithms it runs on the CPU, as torch has no deterministic
    cumulative sum for GPUs.
    """
    import torch

    if values.is_cuda and torch.are_deterministic_algorithms_enabled():
        return values.cpu().cumsum(-1).to(values.device)
    return values.cumsum(-1)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Nucleus sampling's probabilities, (rows, vocabulary): tokens outside the nucleus get 0.

    The nucleus is the smallest set of most probable tokens that together reach `top_p` (Holtzman et
    al., 2020, arXiv:1904.09751, section 3.1). The result is not normalised again.
    """
    import torch

    ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
    before = running_sum(ordered) - ordered
    return torch.zeros_like(probabilities).scatter_(-1, index, ordered * (before < top_p))
