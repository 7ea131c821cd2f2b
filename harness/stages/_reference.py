"""Where a reference stage leaves its figures, and how a training stage reads them."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import StageFailed
from harness.core.files import digest_file
from harness.stages.base import Job

LOGPS = "logps.safetensors"
REFERENCE = "reference"


def reference_file(job: Job) -> Path | None:
    """The log-probabilities that the stage's reference gave; None where its trainer computes them.

    Raises:
        StageFailed: they are gone, or not those that the reference stage recorded.
    """
    if not job.has(REFERENCE):
        return None
    path = job.input(REFERENCE) / LOGPS
    recorded = job.input_record(REFERENCE).outputs[LOGPS].sha256
    if not path.is_file() or digest_file(path) != recorded:
        raise StageFailed(
            "input changed",
            f"{path} is not as the reference stage left it",
            fix="run again: the reference is then computed anew",
        )
    return path
