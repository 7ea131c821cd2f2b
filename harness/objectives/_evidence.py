"""What the first steps of a training show: which tokens are in the loss, where gradients arrive."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.objectives.base import Evidence

_BATCHES, _STEPS = 2, 20
_SHOWN = ("input_ids", "attention_mask", "labels")


class Witness(TrainerCallback):
    """Looks at what enters the model and at the gradients, and touches neither.

    Gradients are watched until each trainable tensor has had one that is not zero, for 20 steps at
    most: LoRA's A has none before B has left its zeros.
    """

    def __init__(self) -> None:
        self._batches: list[dict[str, list[list[int]]]] = []
        self._waiting: set[str] | None = None
        self._steps, self._signal = 0, False
        self._hook: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = kwargs["model"]
        self._waiting = {name for name, p in model.named_parameters() if p.requires_grad}
        self._hook = model.register_forward_pre_hook(self._look, with_kwargs=True)

    def _look(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(self._batches) < _BATCHES and module.training:
            shown = {name: kwargs[name] for name in _SHOWN if torch.is_tensor(kwargs.get(name))}
            self._batches.append({name: tensor.tolist() for name, tensor in shown.items()})
        if len(self._batches) >= _BATCHES:
            self.close()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self._waiting or self._steps >= _STEPS:
            return
        self._steps += 1
        for name, parameter in kwargs["model"].named_parameters():
            gradient = parameter.grad if name in self._waiting else None
            if gradient is not None and bool(torch.any(gradient != 0)):
                self._waiting.discard(name)
                self._signal = True

    def close(self) -> None:
        """Take the hook off the model."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def evidence(self) -> Evidence:
        """What was seen."""
        return Evidence(
            batches=tuple(self._batches),
            without_gradient=tuple(sorted(self._waiting or ())),
            signal=self._signal,
        )
