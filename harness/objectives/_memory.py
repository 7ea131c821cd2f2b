"""What a training step keeps in memory, counted exactly."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.measure import tensor_bytes


class FirstStep(TrainerCallback):
    """Counts what a step keeps in memory: activations of the first, gradients, optimizer state."""

    def __init__(self) -> None:
        self.activations: int | None = None
        self.gradients: int | None = None
        self._hooks: Any = None
        self._kept: dict[int, int] = {}

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.activations is not None:
            return
        own = {p.untyped_storage().data_ptr() for p in kwargs["model"].parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                self._kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        self._hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        self._hooks.__enter__()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._hooks is None:
            return
        self._hooks.__exit__(None, None, None)
        self._hooks = None
        self.activations = sum(self._kept.values()) // args.gradient_accumulation_steps
        grads = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        self.gradients = tensor_bytes(grads)


def optimizer_bytes(trainer: Trainer) -> int:
    """Bytes of the optimizer's state."""
    state = trainer.optimizer.state if trainer.optimizer is not None else {}
    tensors = [t for values in state.values() for t in values.values() if torch.is_tensor(t)]
    return tensor_bytes(tensors)
