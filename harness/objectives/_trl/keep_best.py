"""Which checkpoint is kept: the last, or the one with the lowest validation loss."""

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
    """Validates every `every` steps and at the end, and puts the best weights back when done.

    The best is the lowest validation loss; of equal ones, the earliest. Weights that no step has
    moved yet, as where a warm-up begins at a rate of 0, are the start and no checkpoint: they are
    kept only where there are no others. Validation draws no random number that training would have
    drawn: the losses of training are those of `keep: last`.
    """

    def __init__(self, model: Any, every: int, folder: Path) -> None:
        self.model, self.every, self.folder = model, every, folder
        self.seen: list[tuple[int, float]] = []
        self._start = places(_own(model))
        self._still: set[int] = set()
        self._random: dict[str, Any] | None = None

    @property
    def best(self) -> tuple[int, float]:
        """Step and validation loss of the best weights so far."""
        return min(self.seen, key=lambda found: (found[0] in self._still, found[1], found[0]))

    def restore(self, checkpoint: Path | None) -> None:
        """Go on from what was known when the checkpoint was written, and from nothing else."""
        for name in (_WEIGHTS, _LOG):
            (self.folder / name).unlink(missing_ok=True)
            if checkpoint is not None and (checkpoint / name).is_file():
                shutil.copyfile(checkpoint / name, self.folder / name)
        log = self.folder / _LOG
        if log.is_file():
            found = json.loads(log.read_text(encoding="utf-8"))
            self.seen = [(int(step), float(loss)) for step, loss, *_ in found]
            self._still = {int(step) for step, _, *still in found if still == [True]}

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
        found = [(step, loss, step in self._still) for step, loss in self.seen]
        write_atomic(self.folder / _LOG, json.dumps(found))

    def _stands_still(self) -> bool:
        own = places(_own(self.model))
        return all(torch.equal(own[name], place) for name, place in self._start.items())

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        folder = self.folder / f"checkpoint-{state.global_step}"
        for name in (_WEIGHTS, _LOG):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)

    def finish(self) -> dict[str, Any]:
        """Put the best weights back into the model; what the record says of them."""
        saved = load_file(self.folder / _WEIGHTS)
        own = _own(self.model)
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(saved[name])
        step, loss = self.best
        seen = [list(found) for found in self.seen]
        return {"policy": "best", "step": step, "validation_loss": loss, "validated": seen}


def _own(model: Any) -> dict[str, torch.Tensor]:
    """What trains, where it lies."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().contiguous() for name, p in _own(model).items()}


def _random_state() -> dict[str, Any]:
    found: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
