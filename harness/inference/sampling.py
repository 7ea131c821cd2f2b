"""Sampling in which each request has a seed of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any


def seed_of(base: int, example: str, number: int) -> int:
    """The seed of one sample of one example, 63 bits: alike on every machine and in any batch."""
    text = f"{base}\0{example}\0{number}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def sampler(seeds: Sequence[int], options: Mapping[str, Any]) -> Any:
    """A logits processor that draws each row's token and leaves no other to choose.

    One uniform number a row and step, from the row's own generator, is looked up in the cumulative
    distribution; so a row draws the same whatever stands beside it. transformers' own sampling
    draws for the whole batch from one generator.

    Args:
        options: `temperature`, and `top_p` (Holtzman et al., 2020, arXiv:1904.09751).
    """
    import torch
    from transformers import LogitsProcessor

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    class Sampler(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            likely = (scores.double() / options["temperature"]).softmax(-1)
            ordered, tokens = likely.sort(dim=-1, descending=True, stable=True)
            before = ordered.cumsum(-1) - ordered
            ordered = ordered.masked_fill(before >= options["top_p"], 0.0)
            draws = torch.stack(
                [torch.rand(1, generator=g, dtype=torch.float64) for g in generators]
            )
            reached = ordered.cumsum(-1)
            wanted = draws.to(scores.device) * reached[:, -1:]
            place = torch.searchsorted(reached, wanted, right=True).clamp(max=likely.shape[-1] - 1)
            chosen = tokens.gather(-1, place)
            return torch.full_like(scores, -torch.inf).scatter_(-1, chosen, 0.0)

    return Sampler()
