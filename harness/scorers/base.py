"""The contract of a scorer: sufficient statistics of each example, and metrics over them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import model_validator

from harness.core import from_yaml, registry
from harness.core.aggregate import AGGREGATES
from harness.core.component import AddedLater, Component, NotHashed
from harness.data.contests import Compared, Contest, Question, Ranks, Reply, Standing, Verdict
from harness.data.words import Words, unread
from harness.scorers._asks import Asked, Policy, Subject
from harness.scorers._draws import mean_of_draws
from harness.scorers._job import Judge, LoadedModel, Prediction, ScoreJob

__all__ = [
    "SHARE", "Asked", "Compared", "Contest", "Judge", "LoadedModel", "Metric", "Policy",
    "Prediction", "Question", "Ranks", "Reply", "ScoreJob", "Scorer", "Standing", "Subject",
    "Verdict", "scorer_of",
]  # fmt: skip


SHARE = (0.0, 1.0)
"""Bounds of a metric that is a share of 1."""


@dataclass(frozen=True)
class Metric:
    """How a metric is computed from a scorer's columns.

    Attributes:
        aggregate: a name in harness.core.aggregate.
        columns: statistic of the aggregate -> column of the scores. For a mean it may be empty: the
            column is then called like the metric.
        bounds: the least and the greatest value that the metric can have (of a mean: that an
            example can have), infinite where there is no end. Intervals and those of differences
            end there. Without them, those of the aggregate.
        even: for a metric that compares with the baseline itself, its value if neither is better.
            The report compares the metric with this number, since the baseline has no value.
        judged: a judge gave the values, so that they are only as good as it is.
    """

    aggregate: str = "mean"
    higher_is_better: bool = True
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    bounds: tuple[float, float] | None = None
    even: float | None = None
    judged: bool = False

    def declare(self, name: str) -> dict[str, Any]:
        """The metric as a record has it, so that a comparison needs no scorer."""
        columns = dict(self.columns)
        if not columns:
            (statistic,) = AGGREGATES[self.aggregate].statistics
            columns = {statistic: name}
        return {
            "aggregate": self.aggregate,
            "higher_is_better": self.higher_is_better,
            "columns": columns,
            "unit": self.unit,
            **({} if self.bounds is None else {"bounds": [_finite(end) for end in self.bounds]}),
            **({} if self.even is None else {"even": self.even}),
            **({"judged": True} if self.judged else {}),
        }


def _finite(end: float) -> float | None:
    """An end of bounds as JSON has it: null where there is none."""
    return end if math.isfinite(end) else None


class Scorer(Component):
    """Gives each example one value a column, from answers, a model or whatever it asks for.

    A scorer of single answers overrides `score`; one that needs all answers at once overrides
    `score_all`; any other says in `asks` what it reads, and overrides `score_job`.
    """

    axis = "scorer"
    metrics: ClassVar[Mapping[str, Metric]] = {}
    needs_references: ClassVar[bool] = False
    """Whether it compares answers with references: rows without a reference are then refused."""

    data: Annotated[str | None, NotHashed] = None
    """Entry under `data:` whose test rows are scored; default: all that the variant is evaluated
    on."""
    label: Annotated[str | None, NotHashed] = None
    """Name of the metric in tables, where one scorer is used more than once."""
    forgetting: Annotated[bool | None, NotHashed] = None
    """Whether the metric measures what a variant forgot, and not what it was trained for. The
    default is true for the divergence from the base, and for the likelihood of texts that no
    variant is trained on. It is also true for general text that a training mixes in against
    forgetting (`ptx_data`); set `false` if that is not meant."""

    drawn: Annotated[bool, AddedLater] = False
    """Score the drawn answers (`generate: {samples: k}`) in the place of the greedy one: an example
    has their mean, and claims tell the noise of drawing from that of examples and seeds. For
    scorers of single answers whose metrics are means."""

    @model_validator(mode="after")
    def _draws_can_be_scored(self) -> Self:
        if not self.drawn:
            return self
        kind = type(self)
        whole = kind.score_job is not Scorer.score_job or kind.asks is not Scorer.asks
        if whole or kind.samples_needed is not Scorer.samples_needed:
            raise ValueError("drawn: it does not score one answer by itself")
        if any(metric.aggregate != "mean" for metric in self.declared().values()):
            raise ValueError("drawn: a metric of it is no mean over examples")
        return self

    def declared(self) -> Mapping[str, Metric]:
        """The metrics of this scorer; override it if they depend on the scorer's fields."""
        return self.metrics

    def reported(self, evaluation: str, places: Mapping[str, Path]) -> Sequence[str]:
        """The names of the metrics that this scorer will have on one of its own sets, as far as
        files on this machine tell; empty if they do not.

        Args:
            evaluation: one of `sets`.
            places: as `require` has them.
        """
        return ()

    def planned(self) -> dict[str, Any]:
        """All fields, for the score stage. A field that `identity` fills in has that value, such as
        the digest of a folder."""
        fields = self.model_dump(mode="json")
        return fields | {n: value for n, value in self.identity().items() if n in fields}

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        """What the scorer reads, under the names that `score_job` uses for it. It must depend on
        the scorer's fields only. A variant that lacks something of it is not scored.

        Args:
            of: the variant that is scored, on the rows of one data entry.
        """
        return {"answers": of.answers()}

    def sets(self) -> Mapping[str, Scorer]:
        """Sets of examples that the scorer brings itself, such as a benchmark's tasks, in the place
        of data entries: name of the set -> the scorer of this set alone. Each is a stage of its
        own. Empty where the suite's data is scored."""
        return {}

    def limited(self, rows: int) -> Scorer:
        """The scorer that scores at most so many examples of each of the sets that it brings
        itself, for a run that keeps so many rows of every split."""
        return self

    def reads(self, asked: Asked) -> bool:
        """Whether this is among what it asks for."""
        return asked in self.asks(Subject()).values()

    def shows(self) -> str:
        """What its metrics say about a variant that starts from another checkpoint, for the table
        of what alignment cost: `answers` (how good they are), `reward`, `preference` (compared with
        its start), `from_start` and `from_base` (how far it moved), `language` (how likely text
        is), `diversity`, or nothing."""
        return "answers" if self.reads(Subject().answers()) else ""

    def refuse_families(self, families: Collection[str]) -> str:
        """Why rows of these families (their groups; "" for rows without one) cannot be scored, and
        what to do; empty if they can. It is called before anything is trained."""
        return ""

    def words(self) -> Mapping[str, Words]:
        """The YAML of a tokenizer -> how it cuts texts into words: the one in use first, then
        others that the scorer has. Empty for a scorer that does not use words."""
        return {}

    def unread(self, scripts: Mapping[str, int], references: int) -> str:
        """A note about references in scripts in which the tokenizer finds no words; empty if there
        are none. It is called before anything is trained.

        Args:
            scripts: script -> number of references that have it.
            references: how many references there are.
        """
        return unread(self.words(), scripts, references)

    def samples_needed(self) -> int:
        """How many samples of each prompt it compares; 0 if it reads the greedy answer only."""
        return 2 if self.drawn else 0

    def questions(self) -> int:
        """How many questions to a judge each row makes, to estimate the cost; 0 if it asks none."""
        return 0

    def contested(
        self, contests: Sequence[Contest], judge: Judge, prompts: Mapping[str, str]
    ) -> Mapping[str | None, Sequence[Compared]]:
        """What a judge that rates or ranks says of two answers, by the dimensions that it rates
        and, under None, on the whole. Only scorers of such judges have it.

        Args:
            prompts: the texts of the prompts that the scorer asks for, by their names.
        """
        raise NotImplementedError

    def provenance(self) -> dict[str, Any]:
        """What the record says about the scoring; called after it. The report shows sentences under
        `notes` once for all variants, so that they must be about the rows only; it shows those
        under `answer_notes` with the names of the variants that they are about."""
        return {}

    def resolved(self, where: str, places: Mapping[str, Path], suite_file: Path) -> Scorer:
        """The scorer with its options as files on this machine resolve them, such as a pattern that
        stands for names. The plan calls it first, and then uses what it returns.

        Args:
            where, places: as `require` has them.
            suite_file: the suite's file, beside which files are named.

        Raises:
            SuiteError: naming the option.
        """
        return self

    def require(self, where: str, places: Mapping[str, Path]) -> None:
        """Refuse options that cannot work, as far as files on this machine tell it without heavy
        imports. The plan calls it before anything else.

        Args:
            where: the scorer's place in the suite.
            places: where the folders and the files of functions lie, by the names that the scorer
                asks for them by.

        Raises:
            SuiteError: naming the option.
        """

    def require_data(self, where: str, places: Mapping[str, Path]) -> None:
        """Refuse to prepare without data that is not here and cannot be fetched, as far as this
        machine tells it without heavy imports. The plan calls it where `prepare` has yet to run.

        Raises:
            SuiteError: naming the data, where it belongs, and how to get it.
        """

    def prepare(self, job: ScoreJob, tokenizer: Any) -> dict[str, Any]:
        """Write into `job.folder` what `Subject.prepared(...)` asks for: once for all variants of
        one tokenizer, without any model.

        Args:
            job: with what the preparation reads.

        Returns:
            Figures for the record, such as the number of `requests`.
        """
        raise NotImplementedError

    def score(self, prediction: Prediction) -> dict[str, float]:
        """The columns of one answer: name -> value."""
        raise NotImplementedError

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        """The columns of each answer, in their order; override it if that is cheaper at once."""
        return [self.score(prediction) for prediction in predictions]

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        """The columns of each example; override it if the scorer reads more than the answers.

        Returns:
            One mapping for each answer, in their order. A scorer that does not ask for the
            variant's answers adds each example's `example_id`, `cluster` and `group`.
        """
        if self.drawn:
            return list(mean_of_draws(self.score_all, job.answers()))
        return list(self.score_all(job.answers()))


def scorer_of(name: str, fields: Mapping[str, Any]) -> Scorer:
    """The scorer of a score stage.

    Args:
        fields: as `Scorer.planned` gave them.

    Raises:
        SuiteError: a name or field that no scorer has.
    """
    declared = cast(type[Scorer], registry.find("scorer", name))
    return from_yaml.build_fields(declared, fields, f"scorer {name}")
