"""The base class of AI labellers, which compare two answers, for labels and for scores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from harness.core.component import Component
from harness.core.errors import StageFailed
from harness.data.contests import Compared, Contest, Question, Ranks, Reply, Verdict

__all__ = [
    "Compared", "Contest", "LabelJob", "Labeller", "Places", "Question", "Ranks", "Reply",
    "Verdict", "ranks_of",
]  # fmt: skip


@dataclass
class LabelJob:
    """The work that a stage gives to a labeller.

    Attributes:
        progress: receives (done, total, unit).
        work: a folder that the stages of a store share, for replies that cost money
            (harness.inference.replies).
        model, tokenizer: the model that the labeller declares in `beside` or `reads_model`, else
            None.
        cost: receives figures for the record's cost, such as the number of calls and tokens.
        figures: receives figures about the labeller for the record, such as its position bias.
        repeat: number of an independent repetition: replies of another one are not used again.
        members: loads what each of `Labeller.judges` reads, for a panel: model and tokenizer.
    """

    contests: Sequence[Contest]
    progress: Callable[[int, int, str], None]
    work: Path
    model: Any = None
    tokenizer: Any = None
    cost: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    repeat: int = 0
    members: Sequence[Callable[[], tuple[Any, Any]]] = ()


class Places(Protocol):
    """Finds what the fields of a labeller name, while a suite is planned."""

    def prompt(
        self, named: str, field: str, needed: Collection[str], known: Collection[str]
    ) -> str:
        """The text of a prompt: that of the Jinja file, if a file is named.

        Raises:
            SuiteError: there is no such file, or the prompt lacks a field that it needs.
        """
        ...

    def file(self, named: str, field: str) -> tuple[str, str]:
        """Where a file lies, and the sha256 of its content.

        Raises:
            SuiteError: there is no such file.
        """
        ...


class Labeller(Component):
    """Decides which of two answers is better, independent of objective and policy."""

    axis = "labeller"
    beside: ClassVar[tuple[str, ...]] = ()
    """Objectives whose models the labeller reads: each is trained in a separate stage and passed
    as `LabelJob.model`."""
    reads_model: ClassVar[bool] = False
    """Whether the labeller reads an untrained model of the suite, named by its field `model`."""
    answers_questions: ClassVar[bool] = False
    """Whether it answers questions in words (`reply`), and not only contests: then it can rate
    answers too."""

    def label(self, job: LabelJob) -> list[Verdict]:
        """Return a verdict for each contest, in their order."""
        raise NotImplementedError

    def compare(self, job: LabelJob) -> list[Compared]:
        """What it says of each contest in each order in which it asks, for scores. A labeller that
        asks in both orders overrides this and `label`."""
        return [Compared((verdict,)) for verdict in self.label(job)]

    def reply(self, job: LabelJob, questions: Sequence[Question]) -> list[Reply]:
        """Answer questions, in their order. The contests of the job play no part.

        Raises:
            StageFailed: it answers no questions.
        """
        raise StageFailed(
            "labeller",
            f"{self.name} compares two answers, and rates none by a rubric",
            fix="use a judge that reads text, such as `judge` or `endpoint`",
        )

    def rank(self, job: LabelJob, questions: Sequence[Question]) -> list[Ranks]:
        """Rank the choices of each question, here by how probable each of them is as its answer.

        Raises:
            StageFailed: it answers no questions.
        """
        replies = self.reply(job, questions)
        return [
            reply
            if isinstance(reply, str)
            else ranks_of({c: -reply.get(c, 0.0) for c in q.choices})
            for reply, q in zip(replies, questions, strict=True)
        ]

    def placed(self, places: Places) -> Self:
        """The labeller with what its fields name in their place, such as the text of a prompt's
        file. Plans call it; what it returns is hashed."""
        return self

    def judges(self) -> tuple[Labeller, ...]:
        """The labellers that it asks; itself, if it is no panel."""
        return (self,)

    def sequences(self, answers: int) -> int:
        """Number of texts to read for a prompt with so many answers, to estimate the cost."""
        return answers * (answers - 1)

    def calls_at_once(self) -> int:
        """Number of concurrent requests to another machine, to estimate the time; 0 for a local
        labeller."""
        return 0


def ranks_of(places: Mapping[str, float]) -> dict[str, float]:
    """Ranks by numbers of which the least is the best, such as places in a list; equal ones share
    the mean of their ranks."""
    values = list(places.values())
    return {
        name: 1 + sum(other < place for other in values) + (values.count(place) - 1) / 2
        for name, place in places.items()
    }
