"""The contract of an executor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.component import Component
from harness.store.stage import Resources, Stage

Handle = str


@dataclass(frozen=True)
class Progress:
    """How much of a running stage is done, out of `total`; 0 if the total is not known."""

    handle: Handle
    done: int
    total: int
    note: str = ""


@dataclass(frozen=True)
class Note:
    """A message about a running stage for people to read at once: it waits, it continues a run."""

    handle: Handle
    text: str


@dataclass(frozen=True)
class Finished:
    """A stage has ended. Its record says how; if there is no record, `error` says why."""

    handle: Handle
    error: Mapping[str, str] | None = None


Event = Progress | Note | Finished


class Executor(Component):
    """Where stages run. Anything that can start `python -m harness.worker FOLDER` can be one."""

    axis = "executor"

    def device(self) -> str:
        """The device of the stages, `cpu` or `cuda`, known without torch; plans hash it."""
        return "cpu"

    def dtype(self) -> str:
        """The dtype of models for which the suite names none. Plans hash it."""
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
        """The reason why stages that need these can never run here; None if they can."""
        return None

    def start(self, log: Path) -> Session:
        """Begin a run.

        Args:
            log: the file for what the stages' processes print.
        """
        raise NotImplementedError


class Session:
    """An executor at work for one run."""

    def submit(self, folder: Path, resources: Resources) -> Handle:
        """Start the stage whose stage.json lies in `folder`; returns a name for its events."""
        raise NotImplementedError

    def wait(self, timeout: float) -> list[Event]:
        """The events since the last call; waits at most `timeout` seconds for the first."""
        raise NotImplementedError

    def close(self) -> None:
        """End the stages that still run, and release everything."""
