"""Logits of chosen positions only, for models of every family."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from harness.core.device import upload

if TYPE_CHECKING:
    from torch import Tensor

SMALL_BYTES = 64 * 2**20
"""Size of float32 logits up to which a trained head gets all positions: picking would save little,
and would change the order in which its gradient is summed."""

Pick = Callable[["Tensor"], "Tensor"]
"""Picks positions: values of shape (rows, tokens, size) -> some of them, (any, any, size)."""


@contextlib.contextmanager
def head_on(model: Any, tokens: int, pick: Pick) -> Iterator[Pick]:
    """Context manager in which the model's head gets the hidden states of picked positions alone.

    The rest of the model is unchanged: what a family does after the head (caps, scales), and
    adapters on the head, still apply. The head gets all positions if it is not called as a module,
    and if it trains on so few positions that picking would save little (its gradient then stays
    the same, bit for bit).

    Args:
        tokens: number of tokens of a row. The positions of a soft prompt stand before them and are
            never picked.

    Yields:
        A function from the model's logits to those of the picked positions.
    """
    find = getattr(model, "get_output_embeddings", None)
    head = find() if find is not None else None
    picked = [False]

    def gather(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = inputs[0]
        picked[0] = hidden.dim() == 3 and hidden.shape[1] >= tokens and not _small(module, hidden)
        return (pick(hidden[:, -tokens:]), *inputs[1:]) if picked[0] else inputs

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


def at(rows: Tensor, columns: Tensor) -> Pick:
    """A `Pick` of positions by row and column, both (positions,): (1, positions, size)."""
    return lambda values: values[rows, columns].unsqueeze(0)


def logits_at(model: Any, chosen: Tensor, **inputs: Any) -> Tensor:
    """Logits of the chosen positions, (positions, vocabulary), row by row.

    Args:
        chosen: (rows, tokens) booleans, on the CPU: where they are counted on a GPU, the host
            waits.
        inputs: the model's keyword arguments.
    """
    rows, columns = (upload(each, model.device) for each in chosen.nonzero(as_tuple=True))
    with head_on(model, chosen.shape[1], at(rows, columns)) as taken:
        return taken(model(**inputs, use_cache=False).logits)[0]
