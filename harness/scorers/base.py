"""The contract of a scorer: per-example sufficient statistics, and the metrics made of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

from harness.core import component
from harness.core.aggregate import AGGREGATES
from harness.core.component import Component, NotHashed
from harness.core.errors import StageFailed, unknown
from harness.data.preference_rule import Rule
from harness.data.words import Words, unread
from harness.scorers._asks import Asked, Policy, Subject

__all__ = [
    "SHARE", "Asked", "LoadedModel", "Metric", "Policy", "Prediction", "ScoreJob", "Scorer",
    "Subject", "Verdict", "scorer_of",
]  # fmt: skip


SHARE = (0.0, 1.0)
"""Bounds of a metric that is a share of 1."""
Verdict = float | str
"""What a labeller says of two answers: the probability that the first is better, in [0, 1], or why
it gave none, as a sentence."""


@dataclass(frozen=True)
class Prediction:
    """One generated answer and what it is held against.

    Attributes:
        text: the greedy answer. samples: drawn answers to the same prompt, where the suite asks.
        finish: how the greedy answer ended: `eos`, `stop`, or `length` where it was cut.
        raw: the greedy answer with the spaces at its ends: what follows a prompt of plain text.
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
class Metric:
    """How a metric is made from a scorer's columns.

    Attributes:
        aggregate: a name in harness.core.aggregate.
        columns: statistic of the aggregate -> column of the scores; a mean's column is the metric.
        bounds: of a mean, the least and the most that a value can be, where it is known.
    """

    aggregate: str = "mean"
    higher_is_better: bool = True
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    bounds: tuple[float, float] | None = None

    def declare(self, name: str) -> dict[str, Any]:
        """The metric as a record carries it, so that comparing needs no scorer."""
        columns = dict(self.columns)
        if not columns:
            (statistic,) = AGGREGATES[self.aggregate].statistics
            columns = {statistic: name}
        return {
            "aggregate": self.aggregate,
            "higher_is_better": self.higher_is_better,
            "columns": columns,
            "unit": self.unit,
            **({} if self.bounds is None else {"bounds": list(self.bounds)}),
        }


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode on the stage's device, and its tokenizer."""

    model: Any
    tokenizer: Any


def _unheard(done: int, total: int, note: str) -> None:
    """Progress that nobody follows."""


@dataclass(frozen=True)
class ScoreJob:
    """What the score stage hands to a scorer.

    Attributes:
        asked: what the scorer asked for (`Scorer.asks`), by the same names.
        progress: takes what is done, of how much, and a note.
        cache: a folder that outlives the stage and is shared by every variant, for what does not
            depend on one (embedded references). Several processes write there at once.
        folder: the stage's own; what a scorer writes here is kept with the scores.
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

    def labeller(self, name: str) -> Callable[[Sequence[tuple[Any, Any, Any]]], list[Verdict]]:
        """The labeller of `Subject.labeller(...)`: a verdict for each (prompt, one answer, other
        answer), in their order. Prompts and answers are in the form of the rows: strings, or lists
        of messages."""
        return cast(Callable[[Sequence[tuple[Any, Any, Any]]], list[Verdict]], self._named(name))

    def _named(self, name: str) -> Any:
        if name not in self.asked:
            raise StageFailed("scorer", unknown("name", name, self.asked, hint="what it asks for"))
        return self.asked[name]


class Scorer(Component):
    """From what it asks for (answers, a model, ...) to per-example statistics.

    A scorer of single answers overrides `score`; one of all answers together `score_all`; any other
    says in `asks` what it reads, and overrides `score_job`.
    """

    axis = "scorer"
    metrics: ClassVar[Mapping[str, Metric]] = {}
    needs_references: ClassVar[bool] = False
    """Whether it holds answers against references: rows without any are then refused."""

    data: Annotated[str | None, NotHashed] = None
    """Entry under `data:` whose test rows are scored; default: every one that the variant is
    evaluated on."""
    label: Annotated[str | None, NotHashed] = None
    """Name of the metric in tables, where one scorer is used more than once."""
    forgetting: Annotated[bool | None, NotHashed] = None
    """Whether it tells what a variant still knows of before, and not what it was trained for;
    default: divergence from the base, and likelihood of texts that no variant is trained on.
    General text that a training mixes in beside its own rows, against forgetting (`ptx_data`),
    still tells of it; say `false` where that is not meant."""

    def declared(self) -> Mapping[str, Metric]:
        """The metrics of this scorer as it is set; override where its fields choose them."""
        return self.metrics

    def planned(self) -> dict[str, Any]:
        """Every field, for the score stage: as it is set, or as `identity` fills it in, such as the
        digest of a folder."""
        fields = self.model_dump(mode="json")
        return fields | {n: value for n, value in self.identity().items() if n in fields}

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        """What it reads, by the names that it reads it by in `score_job`. It depends on the
        scorer's fields alone; of a variant that lacks it there is no score.

        Args:
            of: the variant that is scored, on the rows of one data entry.
        """
        return {"answers": of.answers()}

    def reads(self, asked: Asked) -> bool:
        """Whether this is among what it asks for."""
        return asked in self.asks(Subject()).values()

    def shows(self) -> str:
        """What its metrics say of a variant that goes on from another checkpoint, for the table of
        what alignment cost: `answers` (how good they are), `reward`, `preference` (over its start),
        `from_start` and `from_base` (how far it went), `language` (how likely text is to it),
        `diversity`, or nothing."""
        return "answers" if self.reads(Subject().answers()) else ""

    def refuse_families(self, families: Collection[str]) -> str:
        """Why rows of these families (their groups; "" where a row has none) cannot be scored, and
        what to do; empty where they can. It is asked before anything is trained."""
        return ""

    def words(self) -> Mapping[str, Words]:
        """How it cuts texts into words, by what one writes for it: the way in use first, then
        others that it has; nothing where it does not."""
        return {}

    def unread(self, scripts: Mapping[str, int], references: int) -> str:
        """What a reader must know of references in scripts whose words it does not find; empty
        where there are none. It is asked before anything is trained.

        Args:
            scripts: script -> references that are in it. references: how many there are.
        """
        return unread(self.words(), scripts, references)

    def samples_needed(self) -> int:
        """How many samples of each prompt it compares; 0 where the greedy answer is enough."""
        return 0

    def provenance(self) -> dict[str, Any]:
        """What the record should say of how the scores were made; asked after scoring. Sentences
        under `notes` stand in the report, once for all variants: they speak of the rows alone;
        those under `answer_notes` with the names of the variants whose answers they speak of."""
        return {}

    def score(self, prediction: Prediction) -> dict[str, float]:
        """One value a column for one prediction."""
        raise NotImplementedError

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        """Override where a batch is cheaper than one by one; same order as given."""
        return [self.score(prediction) for prediction in predictions]

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        """Override where the work needs more than the answers.

        Returns:
            A value a column for each answer, in their order. A scorer that does not ask for the
            variant's answers adds each example's `example_id`, `cluster` and `group`.
        """
        return list(self.score_all(job.answers()))


def scorer_of(name: str, fields: Mapping[str, Any]) -> Scorer:
    """The scorer of a score stage.

    Args:
        fields: as `Scorer.planned` gave them.

    Raises:
        SuiteError: a name or field that no scorer has.
    """
    declared = cast(type[Scorer], component.find("scorer", name))
    return component.build_fields(declared, fields, f"scorer {name}")
