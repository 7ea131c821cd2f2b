"""Training budgets: a run ends after a number of tokens or of seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.core.errors import StageFailed
from harness.core.files import write_atomic
from harness.objectives._trainer import TrainerObjective

HORIZON = 1 << 30
"""Number of virtual steps of a learning-rate schedule if the number of real steps is unknown."""
_FILE = "budget.json"


class Budget(TrainerCallback):
    """Stops training at the step where the budget is reached.

    The schedule is built over HORIZON virtual steps. A real step takes the rate of virtual step
    HORIZON x (spent / total), so that warmup and decay cover the budget exactly, for any number of
    steps. Tokens are those that the model saw, without padding. Seconds are those of training
    steps, without loading, validation and saving; a resumed run continues the count.

    Args:
        tokens, seconds: the budget; one of them is set.
        checkpoints: the folder of the trainer's checkpoints, which store the seconds spent.
    """

    def __init__(self, tokens: int | None, seconds: float | None, checkpoints: Path) -> None:
        self.tokens, self.seconds, self.checkpoints = tokens, seconds, checkpoints
        self._state: TrainerState | None = None
        self._spent = 0.0
        self._began: float | None = None

    @property
    def spent(self) -> float:
        """Tokens or seconds spent so far."""
        if self.tokens is not None:
            return float(self._state.num_input_tokens_seen) if self._state is not None else 0.0
        return self._spent + (time.monotonic() - self._began if self._began is not None else 0.0)

    @property
    def total(self) -> float:
        """The budget, in tokens or seconds."""
        return float(self.tokens if self.tokens is not None else self.seconds or 0.0)

    def summary(self) -> dict[str, Any]:
        """The entry about the budget in the training's record."""
        unit = "tokens" if self.tokens is not None else "seconds"
        figures: dict[str, Any] = {unit: self.total, "spent": self.spent}
        if unit == "seconds":
            figures["note"] = "a budget in seconds: the number of steps, and so every figure, may"
            figures["note"] += " differ from run to run"
        return figures

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._state = state
        saved = self.checkpoints / f"checkpoint-{state.global_step}" / _FILE
        if saved.is_file():
            self._spent = float(json.loads(saved.read_text(encoding="utf-8"))["spent"])
        scheduler = getattr(kwargs["lr_scheduler"], "scheduler", kwargs["lr_scheduler"])
        scheduler.lr_lambdas = [self._by_share(rate) for rate in scheduler.lr_lambdas]

    def _by_share(self, rate: Callable[[int], float]) -> Callable[[int], float]:
        return lambda _: rate(int(min(1.0, self.spent / self.total) * HORIZON))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._began = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.tokens is None:
            self._spent, self._began = self.spent, None
        elif not self.spent:
            raise StageFailed(
                "budget",
                "the trainer does not count the tokens it sees, so max_tokens cannot be kept",
                fix="set max_steps or max_seconds instead",
            )
        if self.spent >= self.total:
            control.should_training_stop = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        folder = self.checkpoints / f"checkpoint-{state.global_step}"
        write_atomic(folder / _FILE, json.dumps({"spent": self.spent}))


def budget_of(objective: TrainerObjective, checkpoints: Path) -> Budget | None:
    """The callback for the objective's budget; None if steps or epochs end the training."""
    if objective.max_tokens is None and objective.max_seconds is None:
        return None
    return Budget(objective.max_tokens, objective.max_seconds, checkpoints)
