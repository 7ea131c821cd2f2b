"""The contract of an executor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.component import Component
from harness.store.stage import Resources, Stage

Handle = str


@dataclass(frozen=True)
class Progress:
    """How far a running stage is; `total` is 0 where it is not known."""

    handle: Handle
    done: int
    total: int
    note: str = ""


@dataclass(frozen=True)
class Note:
    """What a person should know of a running stage at once: that it waits, where it goes on."""

    handle: Handle
    text: str


@dataclass(frozen=True)
class Finished:
    """A stage has ended. Its record tells how, unless `error` says why there is none."""

    handle: Handle
    error: Mapping[str, str] | None = None


Event = Progress | Note | Finished


class Executor(Component):
    """Where stages run: anything that can start `python -m harness.worker FOLDER`."""

    axis = "executor"

    def device(self) -> str:
        """`cpu` or `cuda`: what stages will run on, told without torch, as it is hashed."""
        return "cpu"

    def dtype(self) -> str:
        """The dtype of models whose suite names none; hashed."""
        return "float32" if self.device() == "cpu" else "bfloat16"

    def capacity(self) -> int:
        """Stages that may run at once, at most; see `room` for what else they need."""
        return 1

    def room(self, stage: Stage, running: Collection[Stage]) -> bool:
        """Whether the stage can start now, beside those that run. It is asked again whenever one of
        them ends; a stage that has no room although nothing runs has failed.

        The default lets `capacity()` stages run at once, whatever they need.
        """
        return len(running) < self.capacity()

    def refuse(self, resources: Resources) -> str | None:
        """Why stages that need these can never run here; None when they can."""
        return None

    def start(self, log: Path) -> Any:
        """Begin a run; returns the session with `submit`, `wait` and `close`."""
        raise NotImplementedError


class Session:
    """A run's hold on an executor."""

    def submit(self, folder: Path, resources: Resources) -> Handle:
        """Begin a stage whose stage.json lies in `folder`."""
        raise NotImplementedError

    def wait(self, timeout: float) -> list[Event]:
        """What happened since the last call, waiting at most `timeout` seconds for something."""
        raise NotImplementedError

    def close(self) -> None:
        """End what still runs and give everything back."""
