"""The requests stage: what a scorer prepares once for all variants of one tokenizer.

It needs a tokenizer and no model, and runs before anything is trained: a task that cannot be
loaded, or data that is not there, is found then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from harness.core.component import AddedLater, NotHashed
from harness.core.errors import StageFailed
from harness.core.text import number_of
from harness.models.files import ModelPlace
from harness.scorers._asks import Prepared, Subject
from harness.scorers.base import ScoreJob, scorer_of
from harness.stages._outside import read_outside
from harness.stages._tokenizers import load_tokenizer
from harness.stages.base import Job, StageKind
from harness.store.stage import Record, Resources


class Requests(StageKind):
    """What a scorer asks of every model with one tokenizer and chat template."""

    VERSION = 1

    tokenizer: dict[str, Any]
    """Identity of the model's tokenizer and chat template."""
    checkpoint: Annotated[dict[str, Any] | None, AddedLater] = None
    """Identity of the tokenizer that a checkpoint came with; None: the model's is used."""
    scorer: dict[str, Any]
    """The scorer's identity, with the contents of what it reads here."""
    settings: Annotated[dict[str, Any], NotHashed]
    """Every field of the scorer."""
    rules: Annotated[dict[str, str], NotHashed] = {}
    """Name of a function or folder that is read -> where it lies."""
    place: Annotated[ModelPlace, NotHashed]
    """Where the model and the checkpoint lie."""
    where: Annotated[str, NotHashed]
    """The scorer's place in the suite, for messages."""

    def resources(self, asked: Resources) -> Resources:
        return asked.without_gpu()

    @classmethod
    def headline(cls, record: Record) -> str:
        return (
            number_of(record.metrics["requests"], "request") if "requests" in record.metrics else ""
        )

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Let the scorer prepare; metrics are its figures.

        Raises:
            StageFailed: it cannot; the message begins with the scorer's place in the suite.
        """
        scorer = scorer_of(self.scorer["name"], self.settings)
        (prepared,) = (a for a in scorer.asks(Subject()).values() if isinstance(a, Prepared))
        with job.ledger.phase("load"):
            tokenizer = load_tokenizer(self.tokenizer, self.checkpoint, self.place, self.where)
            reads = {
                name: read_outside(asked, Path(self.rules[name]), self.scorer[name])
                for name, asked in prepared.reads.items()
            }
        with job.ledger.phase("prepare"):
            try:
                work = ScoreJob(reads, job.progress, folder=job.folder)
                return scorer.prepare(work, tokenizer)
            except StageFailed as failed:
                message = f"{self.where}: {failed.message}"
                raise StageFailed(failed.reason, message, fix=failed.fix) from failed
