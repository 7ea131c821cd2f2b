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
    """The training runs of one variant on one metric, on the examples that the metric is about.

    Attributes:
        scores: by seed.
    """

    scores: Mapping[int, Scores]
    runs: Runs

    @classmethod
    def of(cls, scores: Mapping[int, Scores]) -> Group:
        """Measured, and each cluster's part in it."""
        counted = {seed: own.counted() for seed, own in scores.items()}
        return cls(counted, Runs(
            np.asarray([own.sample.point() for own in counted.values()]),
            np.stack([own.sample.moves(own.keys.together) for own in counted.values()]),
        ))  # fmt: skip

    @property
    def first(self) -> Scores:
        """Those of one run; the others are of the same examples."""
        return next(iter(self.scores.values()))

    @property
    def independent(self) -> int:
        """Clusters that the metric's doubt rests on."""
        return self.first.sample.independent(self.first.keys.together)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most that the metric can be."""
        return (0.0, 1.0) if self.binary is not None else self.first.bounds

    @property
    def binary(self) -> list[Array] | None:
        """Each run's 0 or 1 an example, where the metric is their share."""
        if self.first.bounds not in ((0.0, 1.0), (-math.inf, math.inf)):
            return None  # of another scale
        found = [own.sample.binary for own in self.scores.values() if not own.unit]
        known = [values for values in found if values is not None]
        return known if len(known) == len(self.scores) else None

    @property
    def plain(self) -> bool:
        """One run, on examples that stand alone."""
        return len(self.scores) == 1 and self.first.keys.together.single

    def only(self, seeds: Sequence[int]) -> Group:
        """Of some seeds, in this order."""
        places = [list(self.scores).index(seed) for seed in seeds]
        runs = Runs(self.runs.points[places], self.runs.moves[places])
        return Group({seed: self.scores[seed] for seed in seeds}, runs)
