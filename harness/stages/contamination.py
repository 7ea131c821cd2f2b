"""The contamination stage: test rows that stand in the training rows."""

from __future__ import annotations

from typing import Any

from harness.data.contamination import contamination
from harness.stages.base import Job
from harness.stages.data import read_rows


def run(job: Job) -> dict[str, Any]:
    """Counts of exact and near copies; a finding is reported, and fails nothing by itself."""
    with job.ledger.phase("compare"):
        train, test = read_rows(job.input("train")), read_rows(job.input("test"))
        return contamination(train, test, int(job.config["n"]))
