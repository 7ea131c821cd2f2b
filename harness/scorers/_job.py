"""What a score stage hands to a scorer: answers, rows, models, judges, by what it asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from harness.core.errors import StageFailed, unknown
from harness.data.contests import Compared, Contest, Question, Ranks, Reply, Standing, Verdict
from harness.data.preference_rule import Rule


@dataclass(frozen=True)
class Prediction:
    """One generated answer and what it is compared with.

    Attributes:
        text: the greedy answer, without white space at its ends.
        samples: sampled answers to the same prompt, if the suite asks for some.
        finish: how the greedy answer ended: `eos`, `stop`, or `length` if it was cut.
        raw: the greedy answer with the white space at its ends, as it follows a plain-text prompt.
    """

    example_id: str
    cluster: str
    group: str
    prompt: str
    text: str
    references: tuple[str, ...]
    samples: tuple[str, ...] = ()
    finish: str = ""
    raw: str = ""


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode on the stage's device, and its tokenizer."""

    model: Any
    tokenizer: Any


class Judge(Protocol):
    """A labeller at work. Prompts and answers are in the form of the rows: strings, or lists of
    messages."""

    def __call__(self, contests: Sequence[tuple[Any, Any, Any]]) -> list[Verdict]:
        """A verdict for each (prompt, one answer, other answer), in their order."""
        ...

    def compare(self, contests: Sequence[Contest]) -> list[Compared]:
        """What it says of each contest in each order in which it asks."""
        ...

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Its answer to each question.

        Raises:
            StageFailed: it only compares two answers, as a reward model does.
        """
        ...

    def rank(self, questions: Sequence[Question]) -> list[Ranks]:
        """Its ranking of the choices of each question.

        Raises:
            StageFailed: as `ask`.
        """
        ...


def _unheard(done: int, total: int, note: str) -> None:
    """The default of `ScoreJob.progress`: does nothing."""


@dataclass(frozen=True)
class ScoreJob:
    """What the score stage hands to a scorer.

    Attributes:
        asked: what the scorer asked for (`Scorer.asks`), by the same names.
        progress: to be called with the number of steps done, of how many, and a note.
        cache: a folder that all stages of this scorer share, for results that do not depend on the
            variant (vectors of references). Several processes write there at once.
        folder: the folder of this stage. Files that a scorer writes here are kept with the scores.
        device: the device of the models.
    """

    asked: Mapping[str, Any]
    progress: Callable[[int, int, str], None] = _unheard
    cache: Path = Path()
    folder: Path = Path()
    device: str = "cpu"

    def answers(self, name: str = "answers") -> Sequence[Prediction]:
        """Answers of `Policy.answers()`, in the rows' order."""
        return cast(Sequence[Prediction], self._named(name))

    def rows(self, name: str = "rows") -> Sequence[Mapping[str, Any]]:
        """Rows of `Subject.rows()`; beside answers, those that were answered."""
        return cast(Sequence[Mapping[str, Any]], self._named(name))

    def model(self, name: str = "model") -> LoadedModel:
        """The model of `Policy.model()` or `Subject.reward_model()`. Where nothing was trained, the
        base is the same object as the variant's model."""
        return cast(LoadedModel, self._named(name))

    def rule(self, name: str = "rule") -> Rule:
        """The rule of `Subject.rule(...)`."""
        return cast(Rule, self._named(name))

    def function(self, name: str) -> Callable[..., Any]:
        """The function of `Subject.function(...)`."""
        return cast(Callable[..., Any], self._named(name))

    def path(self, name: str) -> Path:
        """The folder of `Subject.folder(...)`, its content as it was planned, or of
        `Subject.prepared(...)`."""
        return cast(Path, self._named(name))

    def labeller(self, name: str = "labeller") -> Judge:
        """The labeller of `Subject.labeller(...)`."""
        return cast(Judge, self._named(name))

    def prompt(self, name: str = "prompt") -> str:
        """The text of the prompt of `Subject.prompt(...)`."""
        return cast(str, self._named(name))

    def pairs(self, name: str = "pairs") -> Sequence[Mapping[str, Compared]]:
        """Of each other variant: example id -> what the judge of `Subject.pairs(...)` says of the
        variant's answer beside the other's."""
        return cast(Sequence[Mapping[str, Compared]], self._named(name))

    def ranking(self, name: str = "ranking") -> Mapping[str, Standing]:
        """Example id -> how the variant's answer stands in `Subject.ranking(...)`."""
        return cast(Mapping[str, Standing], self._named(name))

    def _named(self, name: str) -> Any:
        if name not in self.asked:
            raise StageFailed("scorer", unknown("name", name, self.asked, hint="what it asks for"))
        return self.asked[name]
