"""An executor from outside the package: stages run in this process, one after the other."""

from __future__ import annotations

from pathlib import Path

from harness import Executor
from harness.executors.base import Event, Finished, Session
from harness.store.stage import Resources


class Inline(Executor):
    """Runs each stage where it is submitted; saves tests the start of a worker."""

    def start(self, log: Path) -> Session:
        return InlineSession()


class InlineSession(Session):
    def __init__(self) -> None:
        self.ended: list[Event] = []

    def submit(self, folder: Path, resources: Resources) -> str:
        from harness.worker import run_stage

        run_stage(folder, lambda event: None)
        self.ended.append(Finished(str(folder)))
        return str(folder)

    def wait(self, timeout: float) -> list[Event]:
        events, self.ended = self.ended, []
        return events

    def close(self) -> None:
        """Nothing is left that runs."""
