"""Keeps the weights with the lowest validation loss (`keep: best`)."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.core.errors import StageFailed
from harness.core.files import write_atomic
from harness.objectives._trl.movement import places

_WEIGHTS, _LOG = "best.safetensors", "validation.json"


class KeepBest(TrainerCallback):
    """Validates after every `every` steps and at the end, and then restores the best weights.

    The best weights have the lowest validation loss; among equal losses the earliest win. Weights
    that no step has moved yet (a warmup may begin at a rate of 0) are kept only if there are no
    others. Validation does not advance the random state, so the training losses equal those of
    `keep: last`.

    Attributes:
        seen: (step, validation loss) of each validation.
    """

    def __init__(self, model: Any, every: int, folder: Path) -> None:
        self.model, self.every, self.folder = model, every, folder
        self.seen: list[tuple[int, float]] = []
        self._start = places(_trainable(model))
        self._still: set[int] = set()
        self._random: dict[str, Any] | None = None

    @property
    def best(self) -> tuple[int, float]:
        """Step and validation loss of the best weights so far."""
        return min(self.seen, key=lambda entry: (entry[0] in self._still, entry[1], entry[0]))

    def restore(self, checkpoint: Path | None) -> None:
        """Restore the state of a checkpoint; None removes all state."""
        for name in (_WEIGHTS, _LOG):
            (self.folder / name).unlink(missing_ok=True)
            if checkpoint is not None and (checkpoint / name).is_file():
                shutil.copyfile(checkpoint / name, self.folder / name)
        log = self.folder / _LOG
        if log.is_file():
            entries = json.loads(log.read_text(encoding="utf-8"))
            self.seen = [(int(step), float(loss)) for step, loss, *_ in entries]
            self._still = {int(step) for step, _, *still in entries if still == [True]}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        last = state.global_step >= state.max_steps or control.should_training_stop
        if state.global_step % self.every == 0 or last:
            self._random = _random_state()
            control.should_evaluate = True

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if self._random is not None:
            _set_random_state(self._random)
        loss = (metrics or {}).get("eval_loss", math.nan)
        if not math.isfinite(loss):
            raise StageFailed(
                "validation loss is not a number",
                f"the validation loss of step {state.global_step} is {loss}",
                fix="lower the learning rate, or set keep: last",
            )
        self.seen.append((state.global_step, loss))
        if len(self._still) == len(self.seen) - 1 and self._stands_still():
            self._still.add(state.global_step)
        if self.best == (state.global_step, loss):
            part = self.folder / f"{_WEIGHTS}.part"
            save_file(_trained(self.model), part)
            os.replace(part, self.folder / _WEIGHTS)
        entries = [(step, loss, step in self._still) for step, loss in self.seen]
        write_atomic(self.folder / _LOG, json.dumps(entries))

    def _stands_still(self) -> bool:
        present = places(_trainable(self.model))
        return all(torch.equal(present[name], place) for name, place in self._start.items())

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        folder = self.folder / f"checkpoint-{state.global_step}"
        for name in (_WEIGHTS, _LOG):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)

    def finish(self) -> dict[str, Any]:
        """Copy the best weights into the model; return the entry about them for the record."""
        saved = load_file(self.folder / _WEIGHTS)
        trained = _trainable(self.model)
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(saved[name])
        step, loss = self.best
        validated = [list(entry) for entry in self.seen]
        return {"policy": "best", "step": step, "validation_loss": loss, "validated": validated}


def _trainable(model: Any) -> dict[str, torch.Tensor]:
    """The trainable parameters by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().contiguous() for name, p in _trainable(model).items()}


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
