"""Observes the first steps of a training: the tokens in the loss, and the gradients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.objectives._trl import evidence_file as _evidence_file
from harness.objectives._trl.movement import Watch
from harness.objectives.base import Evidence

_BATCHES = 2
_SHOWN = ("input_ids", "attention_mask", "labels")


class Witness(TrainerCallback):
    """Records the model's first inputs and watches the gradients, without changing either.

    Args:
        gates: as in `Watch`.
        checkpoints: the folder of the trainer's checkpoints, which store the observations.
    """

    def __init__(self, gates: Mapping[str, str], checkpoints: Path) -> None:
        self._batches: list[dict[str, torch.Tensor]] = []
        self._checkpoints = checkpoints
        self._gates, self._watch = gates, Watch({}, {})
        self._hook: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = kwargs["model"]
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._watch = Watch(trained, self._gates)
        self._batches = _evidence_file.restore(self._folder(state), {"model": self._watch})
        self._hook = model.register_forward_pre_hook(self._look, with_kwargs=True)

    def _look(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(self._batches) < _BATCHES and module.training:
            shown = {name: kwargs[name] for name in _SHOWN if torch.is_tensor(kwargs.get(name))}
            self._batches.append({name: t.detach().cpu().clone() for name, t in shown.items()})
        if len(self._batches) >= _BATCHES:
            self.close()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        optimizer = kwargs["optimizer"]
        scaler = getattr(optimizer, "scaler", None)
        # With clipping, float16's gradients are unscaled by now; without, the step unscales them.
        scale = 1.0 if scaler is None or args.max_grad_norm > 0 else scaler.get_scale()
        self._watch.look(optimizer, state.global_step + 1, scale)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        _evidence_file.save(self._folder(state), {"model": self._watch}, self._batches)

    def _folder(self, state: TrainerState) -> Path:
        return self._checkpoints / f"checkpoint-{state.global_step}"

    def close(self) -> None:
        """Remove the hook from the model."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def evidence(self) -> Evidence:
        """The observations so far."""
        return self._watch.evidence(self._batches)
