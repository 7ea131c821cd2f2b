"""How many bytes autograd keeps for one backward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class KeptActivations:
    """Measures the first forward pass it is asked to, and lets the others be.

    Attributes:
        bytes: what autograd kept, parameters excluded; None before there was a pass.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.bytes: int | None = None
        self._own = {p.untyped_storage().data_ptr() for p in parameters}

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Hold the forward pass and its loss inside."""
        if self.bytes is not None:
            yield
            return
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            yield
        self.bytes = sum(kept.values())
