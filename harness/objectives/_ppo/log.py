"""The step log of PPO, in the format of the other objectives: one JSON line per step."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from harness.core.errors import StageFailed
from harness.core.files import write_atomic
from harness.objectives.base import TrainJob


class Log:
    """Appends to the job's step log, after the lines of the steps that were done before.

    Args:
        done: number of steps done; later lines of the file are removed.

    Raises:
        StageFailed: the job asks for a tracker other than TensorBoard.
    """

    def __init__(self, job: TrainJob, done: int) -> None:
        self.job = job
        others = sorted(set(job.report_to) - {"tensorboard"})
        if others:
            raise StageFailed(
                "tracker",
                f"PPO reports to tensorboard, not to {others[0]}",
                fix="read the figures in the stage's steps.jsonl",
            )
        lines = []
        if job.step_log.is_file():
            lines = job.step_log.read_text(encoding="utf-8").splitlines(keepends=True)
        write_atomic(job.step_log, "".join(lines[:done]))
        self._handle: Any = None
        self._board: Any = None

    def __enter__(self) -> Log:
        self._handle = self.job.step_log.open("a", encoding="utf-8")
        if "tensorboard" in self.job.report_to:
            from torch.utils.tensorboard import SummaryWriter

            folder = os.environ.get("TENSORBOARD_LOGGING_DIR", str(self.job.checkpoints / "runs"))
            self._board = SummaryWriter(folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.close()
        if self._board is not None:
            self._board.close()

    def write(self, step: int, steps: int, figures: Mapping[str, float]) -> None:
        """Write one line that survives a kill of the process, and report progress."""
        self._handle.write(json.dumps({"step": step, **figures}) + "\n")
        self._handle.flush()
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(f"train/{name}", value, step)
        note = f"reward {figures['reward']:.3f}, KL {figures['kl']:.2f}"
        self.job.progress(step, steps, note)

    def lines(self) -> list[dict[str, float]]:
        """All lines so far, including those from before a resume."""
        self._handle.flush()
        text = self.job.step_log.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]
