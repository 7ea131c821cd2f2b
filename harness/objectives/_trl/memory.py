"""Measures the memory that a training step keeps, exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.core.measure import tensor_bytes


class KeptActivations:
    """Context manager that counts the bytes that autograd keeps for backward passes.

    A storage counts once, from when autograd saves it until it releases it. The same address in the
    next micro-batch of a step counts as another storage.

    Args:
        parameters: tensors that do not count.

    Attributes:
        bytes: the largest number of bytes kept at one time, without the parameters.
    """

    def __init__(self, parameters: Iterable[torch.Tensor]) -> None:
        self.bytes = 0
        self._own = {p.untyped_storage().data_ptr() for p in parameters}
        self._holders: dict[int, int] = {}
        self._now = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, _Kept.tensor_of)

    def __enter__(self) -> KeptActivations:
        self._hooks.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.__exit__(None, None, None)

    def first(self) -> contextlib.AbstractContextManager[object]:
        """A context manager for each pass, which counts in the first one only."""
        return contextlib.nullcontext() if self.bytes else self

    def _keep(self, tensor: torch.Tensor) -> _Kept:
        storage = tensor.untyped_storage()
        return _Kept(tensor, self, storage.data_ptr(), storage.nbytes())

    def hold(self, address: int, size: int) -> None:
        """Count one more kept tensor at this address."""
        if address in self._own:
            return
        if address not in self._holders:
            self._now += size
            self.bytes = max(self.bytes, self._now)
        self._holders[address] = self._holders.get(address, 0) + 1

    def let_go(self, address: int, size: int) -> None:
        """Remove one kept tensor at this address from the count."""
        if address in self._own:
            return
        self._holders[address] -= 1
        if not self._holders[address]:
            del self._holders[address]
            self._now -= size


class _Kept:
    """Stands for a tensor that autograd keeps; it is deleted when autograd releases the tensor."""

    def __init__(
        self, tensor: torch.Tensor, count: KeptActivations, address: int, size: int
    ) -> None:
        self._tensor, self._count, self._where = tensor, count, (address, size)
        count.hold(*self._where)

    def tensor_of(self) -> torch.Tensor:
        """The tensor itself."""
        return self._tensor

    def __del__(self) -> None:
        self._count.let_go(*self._where)


class FirstStep(TrainerCallback):
    """Measures the activations and gradients of the first step.

    Attributes:
        activations: largest number of bytes that autograd kept at one time in the step; None before
            the first step, and if torch compiles the model, since a compiled pass runs no hooks for
            the tensors that it keeps.
        gradients: bytes of the gradients; None before the first step.
    """

    def __init__(self) -> None:
        self.activations: int | None = None
        self.gradients: int | None = None
        self._kept: KeptActivations | None = None

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.gradients is None and not args.torch_compile:
            self._kept = KeptActivations(kwargs["model"].parameters())
            self._kept.__enter__()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.gradients is not None:
            return
        if self._kept is not None:
            self.activations = self._kept.bytes
        self.close()
        grads = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        self.gradients = tensor_bytes(grads)

    def close(self) -> None:
        """Stop counting; safe to call at any time."""
        if self._kept is not None:
            self._kept.__exit__()
            self._kept = None


def optimizer_bytes(trainer: Trainer) -> int:
    """Bytes of the tensors in the optimizer's state."""
    state = trainer.optimizer.state if trainer.optimizer is not None else {}
    tensors = [t for values in state.values() for t in values.values() if torch.is_tensor(t)]
    return tensor_bytes(tensors)
