"""A kind of stage from outside the package: rows whose answers are written differently."""

from __future__ import annotations

from typing import Any, Self

from harness import StageKind
from harness.stages.base import Job
from harness.stages.data import read_rows, write_rows


class Capitals(StageKind):
    """The rows of a data entry with their answers in capitals."""

    reads = {"data": "data"}

    mark: str = ""
    """What each answer ends with."""

    def run(self, job: Job[Self]) -> dict[str, Any]:
        rows = read_rows(job.input("data"))
        for row in rows:
            answer = row["messages"][-1]
            answer["content"] = answer["content"].upper() + self.mark
        return write_rows(job.folder, rows)
