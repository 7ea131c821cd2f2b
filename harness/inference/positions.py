"""Logits of chosen positions alone, whatever the model's family does with its head's output."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SMALL_BYTES = 64 * 2**20
"""Logits that are not worth a gradient summed in other groups, in float32."""

Pick = Callable[["Tensor"], "Tensor"]
"""From values of all positions, (rows, tokens, size), to some of them, (any, any, size)."""


@contextlib.contextmanager
def head_on(model: Any, tokens: int, pick: Pick) -> Iterator[Pick]:
    """Within, the model's head is given the hidden states of picked positions alone.

    The model goes on as it is: what a family does after its head (caps, scales) and what is
    attached to the head are kept. The head gets all positions where it is not called as a module,
    and where it trains on so few that nothing is gained: its gradient stays what it is, to the bit.

    Args:
        tokens: of a row; a soft prompt's positions stand before them, and are not picked from.

    Yields:
        a function from the model's logits to those of the picked positions.
    """
    find = getattr(model, "get_output_embeddings", None)
    head = find() if find is not None else None
    picked = [False]

    def gather(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = given[0]
        picked[0] = hidden.dim() == 3 and hidden.shape[1] >= tokens and not _small(module, hidden)
        return (pick(hidden[:, -tokens:]), *given[1:]) if picked[0] else given

    hook = None if head is None else head.register_forward_pre_hook(gather)
    try:
        yield lambda logits: logits if picked[0] else pick(logits[:, -tokens:])
    finally:
        if hook is not None:
            hook.remove()


def _small(head: Any, hidden: Tensor) -> bool:
    import torch

    weight = getattr(head, "weight", None)
    if weight is None or not (weight.requires_grad and torch.is_grad_enabled()):
        return False
    return 4 * hidden.shape[0] * hidden.shape[1] * len(weight) <= SMALL_BYTES


def where(chosen: Tensor) -> Pick:
    """Pick where `chosen`, (rows, tokens), is true; what is picked is (1, positions, size)."""
    return lambda values: values[chosen].unsqueeze(0)


def logits_at(model: Any, chosen: Tensor, **given: Any) -> Tensor:
    """Logits of the chosen positions, (positions, vocabulary), row by row.

    Args:
        chosen: (rows, tokens) booleans. given: what the model takes.
    """
    with head_on(model, chosen.shape[1], where(chosen)) as taken:
        return taken(model(**given, use_cache=False).logits)[0]
