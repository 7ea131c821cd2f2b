"""The contract of a scorer: per-example sufficient statistics, and the metrics made of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

from harness.core import component
from harness.core.aggregate import AGGREGATES
from harness.core.component import Component, NotHashed
from harness.data.preference_rule import Rule
from harness.data.words import Words, unread

ROWS, START, REWARD = "data", "start", "reward"
"""What a scorer may read beside its subject: the rows asked; the variant's start (its answers for a
scorer of predictions, its model for one of models); the suite's reward model."""
SHARE = (0.0, 1.0)
"""Bounds of a metric that is a share of 1."""
RULE = "rule"
"""Field of a scorer that asks a rule, and the locator of that rule's file."""


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
class PredictionJob:
    """What the score stage hands to a scorer of predictions.

    Attributes:
        cache: a folder that outlives the stage and is shared by every variant, for what does not
            depend on one (embedded references). Several processes write there at once.
        rows: the rows asked, in the predictions' order, for scorers that ask for ROWS.
        start: the start's answers to the same rows, in that order, for those that ask for START.
        rule: for those that name one (`Scorer.named_rule`).
        reward_model, reward_tokenizer: for those that ask for REWARD: a sequence classifier of one
            label in evaluation mode, on its device.
    """

    predictions: Sequence[Prediction]
    progress: Callable[[int, int, str], None]
    cache: Path
    rows: Sequence[Mapping[str, Any]] = ()
    start: Sequence[Prediction] = ()
    rule: Rule | None = None
    reward_model: Any = None
    reward_tokenizer: Any = None


class Scorer(Component):
    """From predictions, or a checkpoint, to per-example statistics."""

    axis = "scorer"
    reads: ClassVar[str] = "predictions"
    """`predictions`, or `model` for scorers that load the checkpoint."""
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

    def named_rule(self) -> str | None:
        """`FILE.py:FUNCTION` of a rule that it asks; its content is part of the identity."""
        return None

    def shows(self) -> str:
        """What its metrics say of a variant that goes on from another checkpoint, for the table of
        what alignment cost: `answers` (how good they are), `reward`, `preference` (over its start),
        `from_start` and `from_base` (how far it went), `language` (how likely text is to it),
        `diversity`, or nothing."""
        return "answers" if self.reads == "predictions" else ""

    def beside(self) -> tuple[str, ...]:
        """What it reads beside its subject: any of ROWS, START and REWARD."""
        return ()

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

    def score_job(self, job: PredictionJob) -> list[dict[str, float]]:
        """Override where the work needs more than the predictions; same order as given."""
        return self.score_all(job.predictions)


@dataclass(frozen=True)
class ModelJob:
    """What the score stage hands to a scorer that reads the model.

    Attributes:
        base: for scorers that declare `needs_base`, the untrained model the checkpoint comes from,
            or the checkpoint's start where they ask for START and it has one; the same object as
            `model` where nothing was trained. None for others.
    """

    model: Any
    tokenizer: Any
    rows: Sequence[Mapping[str, Any]]
    device: str
    progress: Callable[[int, int, str], None]
    folder: Path
    base: Any = None


class ModelScorer(Scorer):
    """A scorer that reads the model; `label` tells several of one kind, on other rows, apart."""

    reads = "model"
    needs_base: ClassVar[bool] = False
    """A model is loaded beside the checkpoint: the untrained one, or its start."""

    def score_model(self, job: ModelJob) -> list[dict[str, Any]]:
        """Rows of example_id, cluster, group and one value a column."""
        raise NotImplementedError


def scorer_of(config: Mapping[str, Any], locators: Mapping[str, str]) -> Scorer:
    """The scorer of a score stage, from its config and what lies where.

    Raises:
        SuiteError: a name or field that no scorer has.
    """
    fields = {k: v for k, v in config.items() if k not in ("name", "version")}
    if RULE in locators:  # its identity is its content; its name is where it lies here
        fields[RULE] = f"{locators[RULE]}:{fields[RULE]['function']}"
    declared = cast(type[Scorer], component.find("scorer", config["name"]))
    return component.build_fields(declared, fields, f"scorer {config['name']}")
