"""How the next token is chosen: the likeliest one, or drawn with a seed for each request."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from harness.core.device import upload
from harness.core.errors import StageFailed

if TYPE_CHECKING:
    from torch import Tensor


_STEPS = 64
"""Number of steps whose random numbers are drawn at once; it does not change the numbers."""


def seed_of(base: int, example: str, number: int) -> int:
    """The seed of one sample of one example, 63 bits; the same on every machine and in every
    batch."""
    text = f"{base}\0{example}\0{number}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


Choose = Callable[[Sequence[Iterator[float]], "Tensor"], "Tensor"]
"""(uniform numbers of each row, logits of shape (rows, vocabulary)) -> the next token of each row,
(rows,); NOT_A_NUMBER where the row's logits are not numbers."""
NOT_A_NUMBER = -1
"""In place of a token: so the host reads tokens and faults at once, and waits for a GPU once."""


def likeliest(draws: Sequence[Iterator[float]], logits: Tensor) -> Tensor:
    """The likeliest token of each row, as transformers' greedy search finds it."""
    best, tokens = logits.float().max(-1)
    return tokens.masked_fill(best.isnan(), NOT_A_NUMBER)


def sampled(
    draws: Sequence[Iterator[float]], logits: Tensor, temperature: float, top_p: float
) -> Tensor:
    """A token of each row, drawn from its distribution by the row's next number.

    The number is looked up in the cumulative probabilities. So a row's tokens do not depend on the
    other rows of the batch, while transformers draws for the whole batch from one generator.
    """
    import torch

    likely = (logits.double() / temperature).softmax(-1)
    reached = running_sum(nucleus(likely, top_p) if top_p < 1 else likely)
    numbers = torch.tensor([next(each) for each in draws], dtype=torch.float64)
    wanted = upload(numbers, reached.device).unsqueeze(1) * reached[:, -1:]
    # The first token whose cumulative probability exceeds the number; its own is never 0.
    token = torch.searchsorted(reached, wanted, right=True).clamp(max=logits.shape[1] - 1)
    return token.squeeze(1).masked_fill(reached[:, -1].isnan(), NOT_A_NUMBER)


def uniform(seed: int) -> Iterator[float]:
    """Uniform numbers of one row, without end, from a generator of its own."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.rand(_STEPS, generator=generator, dtype=torch.float64).tolist()


def require_numbers(least: int) -> None:
    """Check the least of some chosen tokens.

    Raises:
        StageFailed: it is NOT_A_NUMBER.
    """
    if least == NOT_A_NUMBER:
        raise StageFailed(
            "not a number",
            "the model's logits are not numbers: it has no likeliest token",
            fix="look at the training's losses; a model that diverged has no answers",
        )


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
