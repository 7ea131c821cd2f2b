"""What a stage started at a service, kept beside the store's replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from harness.core.files import write_atomic
from harness.stages.base import Job

_JOBS = "jobs"


class State:
    """What is known of it, on disk: it outlives a kill, and the removal of the stage.

    Args:
        replies: the store's folder of replies.
        stage: the name of the stage's folder.
    """

    def __init__(self, replies: Path, stage: str) -> None:
        self.path = replies / _JOBS / f"{stage}.json"
        self.fields: dict[str, Any] = (
            json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        )

    @classmethod
    def of(cls, job: Job) -> Self:
        """That of a running stage."""
        return cls(job.replies, job.folder.name)

    def keep(self, **fields: Any) -> None:
        """Set fields, at once and on disk."""
        self.fields.update(fields)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps(self.fields, indent=1) + "\n")
