"""A labeller at work as a judge: what it reads, and what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.contests import Compared, Contest, Question, Ranks, Reply, Standing, Verdict
from harness.data.verdict_lines import compared_in, read_lines
from harness.labellers.base import LabelJob, Labeller
from harness.models.files import ModelPlace
from harness.stages._models import REWARD, load_beside, load_model
from harness.stages.base import Job
from harness.store.stage import SPEC

STANDINGS = "standings.jsonl"
"""How each variant's answer to each prompt stands, in the folder of a ranking stage."""
ANSWERS = "answers"
"""What the roles of the answers that a ranking stage reads begin with."""


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

    def rank(self, questions: Sequence[Question]) -> list[Ranks]:
        work = self._work(())
        return self._noted(work, self._labeller.rank(work, questions))

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


def answers_in(inputs: Mapping[str, Any]) -> list[str]:
    """The roles of the answers that a ranking stage reads."""
    return sorted(role for role in inputs if role.startswith(f"{ANSWERS}."))


def compared_with(folder: Path, answers: str) -> dict[str, Compared]:
    """Example id -> what a judge says of one variant's answer beside another's.

    Args:
        folder: of the score stage that compared them. answers: the key of the generate stage of
            the one variant.
    """
    said = compared_in(read_lines(folder))
    first = _inputs(folder)["predictions"]["key"] == answers
    return said if first else {name: compared.turned for name, compared in said.items()}


def standings_of(folder: Path, answers: str) -> dict[str, Standing]:
    """Example id -> how the answer of one variant stands.

    Args:
        folder: of a ranking stage. answers: the key of the variant's generate stage.
    """
    inputs = _inputs(folder)
    (role,) = (role for role in answers_in(inputs) if inputs[role]["key"] == answers)
    return {
        line["example_id"]: standing_in(line)
        for line in standing_lines(folder)
        if line["of"] == role
    }


def standing_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ranking stage: `example_id`, `cluster`, the role of the answers (`of`), and
    the fields of a Standing."""
    with (folder / STANDINGS).open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def standing_in(line: Mapping[str, Any]) -> Standing:
    """The Standing of such a line."""
    return Standing(tuple(line["orders"]), tuple(line["places"]))


def _inputs(folder: Path) -> dict[str, Any]:
    inputs: dict[str, Any] = json.loads((folder / SPEC).read_text(encoding="utf-8"))["inputs"]
    return inputs
