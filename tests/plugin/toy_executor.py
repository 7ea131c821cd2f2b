"""An executor from outside the package: stages run in this process, one after the other."""

from __future__ import annotations

from pathlib import Path

from harness.executors.base import Event, Executor, Finished, Handle, Session
from harness.store.stage import Resources


class Inline(Executor):
    """Runs each stage where it is submitted; saves tests the start of a worker."""

    def start(self, log: Path) -> InlineSession:
        return InlineSession()


class InlineSession(Session):
    def __init__(self) -> None:
        self.done: list[Event] = []

    def submit(self, folder: Path, resources: Resources) -> Handle:
        from harness.worker import run_stage

        run_stage(folder, lambda event: None)
        self.done.append(Finished(str(folder)))
        return str(folder)

    def wait(self, timeout: float) -> list[Event]:
        events, self.done = self.done, []
        return events

    def close(self) -> None:
        pass
