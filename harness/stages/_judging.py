"""A labeller at work as a judge: what it reads, and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.data.contests import Compared, Contest, Question, Reply, Verdict
from harness.labellers.base import LabelJob, Labeller
from harness.models.files import ModelPlace
from harness.stages._models import REWARD, load_beside, load_model
from harness.stages.base import Job


def roles_of(labeller: Labeller, name: str) -> Iterator[tuple[str, Labeller]]:
    """Each labeller that is asked, and the role of the model that it reads.

    Args:
        name: what the labeller is called where it is asked for. The role of a reward model is
            that of the labeller, with `.reward` after it.
    """
    members = labeller.judges()
    if members == (labeller,):
        yield name, labeller
        return
    for number, member in enumerate(members):
        yield f"{name}.{number}", member


class Judging:
    """A labeller with the models that it reads, in a stage (`ScoreJob.labeller`).

    Models are loaded when they are first needed, and those of a panel one after the other.

    Attributes:
        figures: what it says of itself, once it was asked.
    """

    def __init__(
        self,
        job: Job,
        labeller: Labeller,
        name: str,
        models: Mapping[str, Mapping[str, Any]],
        places: Mapping[str, ModelPlace],
        repeat: int = 0,
    ) -> None:
        """`models` and `places`: role -> identity of an untrained model, and where it lies.
        `repeat`: number of an independent repetition."""
        self._repeat = repeat
        self._job, self._labeller, self._name = job, labeller, name
        self._models, self._places = models, places
        self._loaded: tuple[Any, Any] | None = None
        self.figures: dict[str, Any] = {}

    def __call__(self, contests: Sequence[tuple[Any, Any, Any]]) -> list[Verdict]:
        """As `harness.scorers.base.Judge`, as are the others."""
        work = self._work([Contest(*contest) for contest in contests])
        return self._noted(work, self._labeller.label(work))

    def compare(self, contests: Sequence[Contest]) -> list[Compared]:
        work = self._work(contests)
        return self._noted(work, self._labeller.compare(work))

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        work = self._work(())
        return self._noted(work, self._labeller.reply(work, questions))

    def _noted(self, work: LabelJob, said: list[Any]) -> list[Any]:
        self._job.cost.update(work.cost)
        self.figures.update(work.figures)
        return said

    def _work(self, contests: Sequence[Contest]) -> LabelJob:
        roles = list(roles_of(self._labeller, self._name))
        work = LabelJob(contests, self._job.progress, self._job.replies, repeat=self._repeat)
        if roles[0][1] is self._labeller:
            if self._loaded is None:
                self._loaded = self._load(*roles[0])
            work.model, work.tokenizer = self._loaded
        else:
            work.members = [
                lambda role=role, member=member: self._load(role, member)  # type: ignore[misc]
                for role, member in roles
            ]
        return work

    def _load(self, role: str, labeller: Labeller) -> tuple[Any, Any]:
        """Model and tokenizer; None of each for a labeller that reads none."""
        if self._job.has(reward := f"{role}.{REWARD}"):
            return load_beside(self._job, reward, self._places[reward])
        if labeller.reads_model:
            return load_model(self._job, role, self._models[role], self._places[role])[:2]
        return None, None
