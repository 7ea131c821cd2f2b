"""Metrics as they were read from any source: a suite, a file of another tool, a baseline, a CSV.

A metric has a score for each example, or only its value with a standard error, or only its value.
What is missing limits what a comparison can say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.comparison.result import Conditions
from harness.comparison.scores import Keys, Scores
from harness.comparison.statistics import Array, Sample
from harness.core.files import digest_json

if TYPE_CHECKING:
    import pyarrow as pa

Prints = NDArray[np.uint32]
"""Fingerprints: the first four bytes of a digest, one for each example."""


MODEL, TEMPLATE = "untrained model", "chat template"
PROMPTS = frozenset({TEMPLATE, "chat_template_sha", "system_instruction_sha",
                     "fewshot_as_multiturn", "solvers", "shots"})  # fmt: skip
"""Conditions that say how prompts are made."""


def _apart(ours: str, theirs: str) -> str:
    short = len(ours) <= 60 and len(theirs) <= 60 and not ours.startswith("sha256:")
    return f": {ours or 'none'} and {theirs or 'none'}" if short else ""


@dataclass(frozen=True)
class Examples:
    """The examples that a metric was measured on, sorted by their ids.

    Attributes:
        ids: strings, each once.
        clusters: the cluster of each example; None if each is one by itself.
        contents: fingerprints of the questions with their references; None if they are not known.
        prompts: fingerprints of the prompts as the model read them; None if they are not known.
    """

    ids: pa.Array
    clusters: pa.Array | None = None
    contents: Prints | None = None
    prompts: Prints | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def keys(self) -> Keys:
        """The same as the comparison of suites has them."""
        ids = tuple(self.ids.to_pylist())
        clusters = ids if self.clusters is None else tuple(self.clusters.to_pylist())
        return Keys(ids, clusters, ("",) * len(ids))

    def alike(self, other: Examples) -> bool:
        """Whether both have the same ids and clusters."""
        if (self.clusters is None) != (other.clusters is None):
            return False
        same = self.clusters is None or self.clusters.equals(other.clusters)
        return same and bool(self.ids.equals(other.ids))

    def why_not(self, other: Examples, *, prompts: bool = False) -> str:
        """Why the examples of equal ids are not the same examples; empty if they are."""
        ours, theirs = self.shared(other)
        for name, what in (("contents", "examples"), ("prompts", "prompts")):
            one, two = getattr(self, name), getattr(other, name)
            if one is None or two is None or (prompts and name == "prompts"):
                continue
            if changed := int((one[ours] != two[theirs]).sum()):
                return f"not the same {what}: {changed:,} of {len(ours):,} with equal ids differ"
        return ""

    def shared(self, other: Examples) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The places of the ids that both have, on either side."""
        import pyarrow.compute as pc

        if self.ids.equals(other.ids):
            every = np.arange(len(self))
            return every, every
        places = pc.index_in(other.ids, value_set=self.ids).to_numpy(zero_copy_only=False)
        known = ~np.isnan(places.astype(np.float64))
        return places[known].astype(np.int64), np.flatnonzero(known)

    def at(self, index: NDArray[np.int64]) -> Examples:
        """The examples at these indexes."""
        return Examples(
            self.ids.take(index),
            None if self.clusters is None else self.clusters.take(index),
            None if self.contents is None else self.contents[index],
            None if self.prompts is None else self.prompts[index],
        )


@dataclass(frozen=True)
class Measured:
    """One metric of one run on one evaluation.

    Attributes:
        value: the metric. If there are scores of examples, it is computed from them.
        columns: each statistic of the examples; empty if only the value is known.
        examples: None if only the value is known.
        stderr: the standard error of the value, if the source has it.
        n: how many examples it was measured on; None if the source does not say.
        conditions: what must be equal in two metrics that are compared, such as the version of the
            task, by name.
        unscored: how many examples have no score.
        note: what limits this metric.
    """

    metric: str
    evaluation: str
    value: float
    higher_is_better: bool = True
    aggregate: str = "mean"
    columns: Mapping[str, Array] = field(default_factory=dict)
    examples: Examples | None = None
    stderr: float | None = None
    n: int | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)
    bounds: tuple[float, float] = (-math.inf, math.inf)
    unit: str = ""
    unscored: int = 0
    note: str = ""
    original: Scores | None = None
    """The scores of a suite, which this metric was made from."""

    @property
    def name(self) -> str:
        """`metric/evaluation`, as claims name it, or the metric alone."""
        return f"{self.metric}/{self.evaluation}" if self.evaluation else self.metric

    def at(self, index: NDArray[np.int64]) -> Measured:
        """The metric on the examples at these indexes."""
        if self.examples is None:
            return self
        columns = {name: column[index] for name, column in self.columns.items()}
        value = Sample(self.aggregate, columns).point()
        return replace(
            self, value=value, columns=columns, examples=self.examples.at(index), n=len(index)
        )

    def sorted(self) -> Measured:
        """The metric with its examples in the order of their ids."""
        import pyarrow.compute as pc

        if self.examples is None:
            return self
        order = pc.sort_indices(self.examples.ids).to_numpy()
        columns = {name: column[order] for name, column in self.columns.items()}
        return replace(self, columns=columns, examples=self.examples.at(order))

    def scores(self) -> Scores:
        """The same as the comparison of suites has it; only for metrics with scores of examples."""
        if self.original is not None:
            return self.original
        assert self.examples is not None
        return Scores(
            self.examples.keys, Sample(self.aggregate, self.columns), self.higher_is_better,
            self.unit, version="", trained=False, bounds=self.bounds,
        )  # fmt: skip

    def why_not(self, other: Measured, *, prompts: bool = False) -> str:
        """Why two metrics cannot be compared; empty if they can, as far as conditions tell.

        Whether both have the same examples is not asked here: those with equal ids are compared.

        Args:
            prompts: other prompts are allowed.
        """
        for name in sorted(self.conditions.keys() & other.conditions.keys()):
            ours, theirs = self.conditions[name], other.conditions[name]
            if ours != theirs and not (prompts and name in PROMPTS):
                if name == TEMPLATE and not self._of_one_model(other):
                    continue  # another model has another template, which belongs to it
                return f"not the same {name}" + _apart(ours, theirs)
        if self.aggregate != other.aggregate or self.higher_is_better != other.higher_is_better:
            return "not the same kind of metric"
        if self.examples is None or other.examples is None:
            return ""
        return self.examples.why_not(other.examples, prompts=prompts)

    def _of_one_model(self, other: Measured) -> bool:
        """Whether both checkpoints come from one untrained model; True if nobody knows."""
        return self.conditions.get(MODEL) == other.conditions.get(MODEL)


def conditions_of(scores: Scores) -> dict[str, str]:
    """What must be equal in the scores of a suite and in those that they are compared with."""
    conditions = {"scorer": digest_json(scores.version)[:16], "rows": scores.rows[:16]}
    others = ((MODEL, scores.model), (TEMPLATE, scores.template), ("reward model", scores.judge))
    return {**conditions, **{name: value[:16] for name, value in others if value}}


def plain(metrics: Mapping[int, Measured]) -> dict[int, Measured]:
    """The metrics as a file would have them: without the scores of a suite that they come from."""
    return {seed: replace(metric, original=None) for seed, metric in metrics.items()}


@dataclass(frozen=True)
class RunCosts:
    """What one run cost.

    Attributes:
        amounts: key, as in harness.suite.claims.COSTS -> seconds, bytes or count.
        trained: False for an untrained model, whose training cost nothing.
        timed, answering: the different conditions that its trainings and its answers ran under.
    """

    amounts: Mapping[str, float]
    trained: bool = True
    timed: tuple[Conditions, ...] = ()
    answering: tuple[Conditions, ...] = ()


@dataclass(frozen=True)
class Run:
    """What one source says of one checkpoint, or of one model.

    Attributes:
        variant: the model's or variant's name.
        seed: of the training; 0 if it is not known.
        metrics: each (metric, evaluation) once.
        source: where it was read: `tool`, `file`, `sha256` and what else the tool tells.
        notes: what a reader must know, in whole sentences.
    """

    variant: str
    metrics: tuple[Measured, ...]
    seed: int = 0
    source: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    costs: RunCosts | None = None
    """What it cost; None if its source does not tell."""
    error: str = ""
    """Why it has no metrics, if the source says that it failed."""
