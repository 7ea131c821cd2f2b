"""The training runs of one variant on one metric."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.comparison import binomial
from harness.comparison.intervals import Inference, Runs
from harness.comparison.scores import Scores
from harness.comparison.statistics import Array


@dataclass(frozen=True)
class Group:
    """The training runs of one variant on one metric, on the examples that the metric counts.

    Attributes:
        scores: each run's scores, by seed.
        runs: the same runs' metric and moves, in the same order.
    """

    scores: Mapping[int, Scores]
    runs: Runs

    @classmethod
    def of(cls, scores: Mapping[int, Scores]) -> Group:
        """Computes the metric of each run, and how far each cluster moves it.

        If runs do not count the same examples, as those of a plugin's scorer may, all examples are
        in the group; each run's metric is the same.
        """
        counted = {seed: run.counted() for seed, run in scores.items()}
        first = next(iter(counted.values())).keys
        if any(run.keys is not first and run.keys.ids != first.ids for run in counted.values()):
            counted = dict(scores)
        return cls(counted, Runs(
            np.asarray([run.sample.point() for run in counted.values()]),
            np.stack([run.sample.moves(run.keys.together) for run in counted.values()]),
        ))  # fmt: skip

    @property
    def first(self) -> Scores:
        """The scores of the first run; all runs have the same examples."""
        return next(iter(self.scores.values()))

    @property
    def independent(self) -> int:
        """The number of independent clusters, which the metric's uncertainty depends on."""
        return self.first.sample.independent(self.first.keys.together)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value that the metric can have."""
        return (0.0, 1.0) if self.binary is not None else self.first.bounds

    @property
    def binary(self) -> list[Array] | None:
        """Each run's 0 or 1 for each example, if the metric is the share of ones; else None."""
        if self.first.bounds not in ((0.0, 1.0), (-math.inf, math.inf)):
            return None  # the metric is on another scale
        each_run = [run.sample.binary for run in self.scores.values() if not run.unit]
        known = [values for values in each_run if values is not None]
        return known if len(known) == len(self.scores) else None

    @property
    def plain(self) -> bool:
        """True for one run on examples that are each a cluster of their own."""
        return len(self.scores) == 1 and self.first.keys.together.single

    def only(self, seeds: Sequence[int]) -> Group:
        """The group of these seeds alone, in this order."""
        places = [list(self.scores).index(seed) for seed in seeds]
        runs = Runs(self.runs.points[places], self.runs.moves[places])
        return Group({seed: self.scores[seed] for seed in seeds}, runs)


def effective_rows(group: Group, inference: Inference) -> float:
    """The effective sample size: how many independent rows would give an interval as wide as these
    clusters and seeds do."""
    if group.plain:
        return float(group.first.sample.n)
    clusters, rows = group.first.keys.together.count, group.first.sample.n * len(group.scores)
    if inference.low is None or inference.high is None:  # nothing varies, or there is one cluster
        return float(clusters)
    half = (inference.high - inference.low) / 2
    return binomial.effective_rows(inference.value, half, group.first.sample.n - 1, rows)


def partner(group: Group, base: Group) -> tuple[Group, bool]:
    """The runs of the baseline that a variant's runs are compared with, and whether each run is
    compared with the one of its own seed alone."""
    paired = group.runs.several and group.scores.keys() <= base.scores.keys()
    return (base.only(list(group.scores)) if paired else base), paired


def common_change(group: Group, base: Group, *, paired: bool) -> int | None:
    """Returns which way all examples changed, if all of them changed alike.

    Args:
        paired: each run is compared with the baseline's run of the same seed alone.

    Returns:
        1 if every example is right in every run and wrong in the baseline's; -1 if it is the other
        way round; 0 if all are equal; None if examples changed differently, or if the metric does
        not say right or wrong.
    """
    ours, theirs = group.binary, base.binary
    if ours is None or theirs is None:
        return None
    pairs = zip(ours, theirs, strict=True) if paired else itertools.product(ours, theirs)
    ways = {int(way) for one, other in pairs for way in np.unique(one - other)}
    return ways.pop() if len(ways) == 1 else None


def changed_rows(group: Group, base: Group) -> tuple[int, int] | None:
    """Counts the rows that changed between one run and the baseline's one run.

    Returns:
        (rows that became right, rows that became wrong); None if the metric does not say right or
        wrong.
    """
    ours, theirs = group.binary, base.binary
    if ours is None or theirs is None:
        return None
    (one,), (other,) = ours, theirs
    return int((one > other).sum()), int((one < other).sum())
