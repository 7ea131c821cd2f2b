"""The checkpoint stage: one trained elsewhere is checked before anything is scored with it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from harness.methods.base import Method
from harness.models.files import ModelPlace
from harness.stages._audit_checkpoint import audited
from harness.stages._models import checkpoint_of, model_ref
from harness.stages.base import Job, Member, NotHashed, StageKind
from harness.store.stage import SPEC, Record


class Checkpoint(StageKind):
    """A checkpoint that was trained elsewhere, checked before anything is scored with it."""

    VERSION = 1

    model: dict[str, Any]
    """Identity of its base."""
    device: str
    """`cpu` or `cuda`."""
    method: Annotated[Method, Member("method")]
    """What it was trained with."""
    content: str
    """Digest of its files."""
    place: Annotated[ModelPlace, NotHashed]
    """Where it and its base lie."""

    @classmethod
    def headline(cls, record: Record) -> str:
        passed = sum(check["status"] == "passed" for check in record.metrics["audit"])
        return f"{passed} checks passed"

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Load it onto its base and audit it; metrics: the audit's findings, its chat template."""
        spec = json.loads((job.folder / SPEC).read_text(encoding="utf-8"))
        with checkpoint_of(job.folder, spec, self.place) as checkpoint:
            ref = model_ref(self.model, self.device, self.place)
            return audited(job, self.method, ref, checkpoint)
