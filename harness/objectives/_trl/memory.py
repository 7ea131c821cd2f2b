"""What a training step keeps in memory, counted exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.core.measure import tensor_bytes


class KeptActivations:
    """Counts, while it is entered, what autograd keeps for backward passes.

    A storage counts once, from when it is kept until autograd lets it go; so an address that comes
    back, as in the next micro-batch of an accumulated step, is another storage.

    Attributes:
        bytes: the most that were kept at once, parameters excluded.
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
        """Counts the first pass that is asked for, and lets the others be."""
        return contextlib.nullcontext() if self.bytes else self

    def _keep(self, tensor: torch.Tensor) -> _Kept:
        storage = tensor.untyped_storage()
        return _Kept(tensor, self, storage.data_ptr(), storage.nbytes())

    def hold(self, address: int, size: int) -> None:
        """One more tensor is kept that lies there."""
        if address in self._own:
            return
        if address not in self._holders:
            self._now += size
            self.bytes = max(self.bytes, self._now)
        self._holders[address] = self._holders.get(address, 0) + 1

    def let_go(self, address: int, size: int) -> None:
        """One that was kept is not any more."""
        if address in self._own:
            return
        self._holders[address] -= 1
        if not self._holders[address]:
            del self._holders[address]
            self._now -= size


class _Kept:
    """A tensor that autograd keeps, in its place: it ends when autograd lets the tensor go."""

    def __init__(
        self, tensor: torch.Tensor, count: KeptActivations, address: int, size: int
    ) -> None:
        self._tensor, self._count, self._where = tensor, count, (address, size)
        count.hold(*self._where)

    def tensor_of(self) -> torch.Tensor:
        """What autograd gave."""
        return self._tensor

    def __del__(self) -> None:
        self._count.let_go(*self._where)


class FirstStep(TrainerCallback):
    """Counts what a step keeps in memory: activations of the first, gradients, optimizer state.

    Attributes:
        activations: most bytes that autograd kept at once, whatever the micro-batches of the step;
            None before there was a step, and where torch compiles the model: what a compiled pass
            keeps is laid out by the compiler, which takes no hooks of ours for it.
        gradients: bytes of them.
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
        """Count no more, however training ended."""
        if self._kept is not None:
            self._kept.__exit__()
            self._kept = None


def optimizer_bytes(trainer: Trainer) -> int:
    """Bytes of the optimizer's state."""
    state = trainer.optimizer.state if trainer.optimizer is not None else {}
    tensors = [t for values in state.values() for t in values.values() if torch.is_tensor(t)]
    return tensor_bytes(tensors)
