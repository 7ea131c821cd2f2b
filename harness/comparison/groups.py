"""The training runs of one variant on one metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.comparison.intervals import Runs
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
        """Computes the metric of each run, and how far each cluster moves it."""
        counted = {seed: run.counted() for seed, run in scores.items()}
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
