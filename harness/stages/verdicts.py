"""The verdicts stage: a labeller of the suite judges the contests of a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from harness.core.outside import as_planned
from harness.data.contest_files import read_contests
from harness.data.contests import Compared, Contest
from harness.data.verdict_lines import lines_of, write_lines
from harness.labellers.base import Labeller
from harness.models.files import ModelPlace
from harness.scorers.base import scorer_of
from harness.stages._judging import Judging, roles_of
from harness.stages.base import AddedLater, Job, Member, NotHashed, StageKind
from harness.store.stage import Record, Resources

NAME = "labeller"
"""What the roles of the models that the labeller reads begin with."""


class Verdicts(StageKind):
    """A labeller's verdicts on the contests of a JSON-lines file, for whoever wants to know how
    good a judge it is. They are in `verdicts.jsonl`, as those of the judged scores are."""

    VERSION = 1
    reads = {"*": "train"}
    long = True

    device: str
    """`cpu` or `cuda`."""
    labeller: Annotated[Labeller, Member("labeller")]
    """Who is asked."""
    sha256: str
    """Digest of the file of contests (see harness.data.contest_files.read_contests)."""
    repeat: int = 0
    """Number of an independent repetition, for a judge that may say something else each time."""
    scorer: Annotated[dict[str, Any] | None, AddedLater] = None
    """Identity of the scorer by whose rubric the answers are rated, or by whose prompt they are
    ranked; None: the labeller is asked which answer is better."""
    settings: Annotated[dict[str, Any], NotHashed] = {}
    """Every field of that scorer."""
    prompts: Annotated[dict[str, str], NotHashed] = {}
    """The texts of its prompts, by the names that it asks for them by."""
    models: dict[str, dict[str, Any]] = {}
    """Role -> identity of an untrained model that the labeller reads, under `model`."""
    places: Annotated[dict[str, ModelPlace], NotHashed] = {}
    """Role -> where that model lies, or the base of a trained one."""
    file: Annotated[str, NotHashed]
    """Where the file of contests lies."""

    def resources(self, asked: Resources) -> Resources:
        members = [member for _, member in roles_of(self.labeller, NAME)]
        reads = any(member.reads_model or member.beside for member in members)
        return asked if reads else asked.without_gpu()

    @classmethod
    def headline(cls, record: Record) -> str:
        missing = sum(record.metrics["missing"].values())
        return f"{record.metrics['contests']} contests" + (
            f", {missing} missing" if missing else ""
        )

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Compare the answers of each contest; metrics are counts, and what the labeller says of
        itself."""
        with job.ledger.phase("load"):
            path = Path(self.file)
            with as_planned(path, self.sha256, lambda digest: digest(path)):
                named = read_contests(path)
        judge = Judging(job, self.labeller, NAME, self.models, self.places, self.repeat)
        with job.ledger.phase("label"):
            compared = self._compared(judge, [contest for _, contest in named])
        with job.ledger.phase("write"):
            write_lines(
                job.folder,
                (
                    line
                    for dimension, several in compared.items()
                    for (name, contest), said in zip(named, several, strict=True)
                    for line in lines_of(name, ("one", "other"), contest, said, dimension)
                ),
            )
        reasons = Counter(said.reason for said in compared[None] if said.reason)
        return {
            "contests": len(named), "missing": dict(reasons), "labeller": dict(judge.figures),
        }  # fmt: skip

    def _compared(
        self, judge: Judging, contests: Sequence[Contest]
    ) -> Mapping[str | None, Sequence[Compared]]:
        """The verdicts on the whole, and by each dimension that answers are rated for."""
        if self.scorer is None:
            return {None: judge.compare(contests)}
        scorer = scorer_of(self.scorer["name"], self.settings)
        return scorer.contested(contests, judge, self.prompts)
