"""Logits of chosen positions alone, whatever the model's family does with its head's output."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def head_on(model: Any, chosen: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
    """Within, the model's head is given the hidden states of the chosen positions alone.

    The model goes on as it is: what a family does after its head (caps, scales) and what is
    attached to the head are kept. A head that is not called as a module gets all positions.

    Args:
        chosen: (rows, tokens) booleans on the tokens that a row ends with: a soft prompt's
            positions stand before them.

    Yields:
        a function from the model's logits to those of the chosen positions, (chosen, vocabulary),
        row by row.
    """
    find = getattr(model, "get_output_embeddings", None)
    head = find() if find is not None else None
    width, gathered = chosen.shape[1], [False]

    def gather(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = given[0]
        gathered[0] = hidden.dim() == 3 and hidden.shape[1] >= width
        own = hidden[:, -width:][chosen].unsqueeze(0) if gathered[0] else hidden
        return (own, *given[1:])

    def taken(logits: Tensor) -> Tensor:
        return logits[0] if gathered[0] else logits[:, -width:][chosen]

    hook = None if head is None else head.register_forward_pre_hook(gather)
    try:
        yield taken
    finally:
        if hook is not None:
            hook.remove()


def logits_at(model: Any, ids: Tensor, mask: Tensor, chosen: Tensor) -> Tensor:
    """Logits of the chosen positions, (chosen, vocabulary), row by row.

    Args:
        ids, mask: tokens and attention mask, (rows, tokens). chosen: (rows, tokens) booleans.
    """
    with head_on(model, chosen) as taken:
        return taken(model(input_ids=ids, attention_mask=mask, use_cache=False).logits)
