"""The contamination stage: test rows that stand in the training rows."""

from __future__ import annotations

from typing import Any, Self

from harness.data.contamination import contamination
from harness.stages.base import Job, StageKind
from harness.stages.data import read_rows
from harness.store.stage import Record, Resources


class Contamination(StageKind):
    """Copies of test rows among training rows. They are reported, and fail nothing."""

    VERSION = 3
    reads = {"train": "data", "test": "data"}

    n: int
    """Words of the runs that are compared."""

    def resources(self, asked: Resources) -> Resources:
        return asked.without_gpu()

    @classmethod
    def headline(cls, record: Record) -> str:
        exact, near = record.metrics["exact"], record.metrics["overlap"]
        return f"{exact} exact, {near} near copies in the training rows"

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Compare; metrics are counts of exact and near copies."""
        with job.ledger.phase("compare"):
            train, test = read_rows(job.input("train")), read_rows(job.input("test"))
            return contamination(train, test, self.n)
