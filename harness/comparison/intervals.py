"""From what clusters and training seeds do to a number to its interval and its test: one procedure.

The interval holds zero just where p is 0.05 or more, as p is the level at which its nearer end
reaches zero.

*One checkpoint*: Student's t over clusters, and the same with Hall's correction for skew (Hall,
1992, Journal of the Royal Statistical Society B 54:221); each end is the farther of the two. t
alone is too sure of skewed examples, the correction alone of heavy tails.

*A method*: seeds (training runs) and clusters are crossed, d = mean + seed + cluster + both
(Brennan, 2001, Generalizability Theory, ch. 3). The variance of the mean is
clusters/G + (seeds/S + both/SG): the latter is that of the seeds' means over S, with S-1 degrees of
freedom; the former is what clusters vary by beyond `both`, which would else count twice. A reach
is the root of the summed squares of each part's own t quantile times its deviation (Banerjee, 1960,
Sankhya 22), which holds its level however the parts compare; Satterthwaite's one number of
degrees of freedom does not with two or three seeds. Nor is a method's interval ever narrower than
that of its mean over these very checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from harness.comparison.statistics import Array

CONFIDENCE = 0.95
POWER = 0.8
_NOTHING = 1e-12
"""A spread below this part of the value is rounding."""
_LEAST_P = 1e-60


@dataclass(frozen=True)
class Inference:
    """A number with its doubt: 95% interval, two-sided p of zero, and what could have been seen.

    Attributes:
        detectable: the smallest difference that 80% of such experiments would have seen.
        reason: why there is no interval.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    detectable: float | None
    reason: str = ""

    @property
    def alike(self) -> bool:
        """There is no interval because nothing varies."""
        return self.low is None and self.p is not None

    def within(self, least: float, most: float) -> Inference:
        """The interval without what the number cannot be; it holds zero as before."""
        if self.low is None or self.high is None or not least <= self.value <= most:
            return self
        return replace(self, low=max(self.low, least), high=min(self.high, most))


@dataclass(frozen=True)
class Runs:
    """Training runs on the same clusters: the metric of each, shape (S,), and how far each cluster
    moves it, shape (S, G), as Sample.moves has it."""

    points: Array
    moves: Array

    def __sub__(self, other: Runs) -> Runs:
        """Run by run, where the runs belong together."""
        return Runs(self.points - other.points, self.moves - other.moves)

    @property
    def several(self) -> bool:
        """There is a spread between runs to be seen."""
        return len(self.points) > 1

    def between(self) -> float:
        """Variance of the mean that runs give it, with what run and cluster make together."""
        return float(np.var(self.points, ddof=1)) / len(self.points)

    def both(self) -> float:
        """Of the mean's variance, what run and cluster make together: neither one's own."""
        runs, clusters = self.moves.shape
        squares = float(((self.moves - self.moves.mean(axis=0)) ** 2).sum())
        return squares / float((runs - 1) * (clusters - 1) * runs * clusters)


def infer(own: Runs, independent: int, base: Runs | None = None) -> Inference:
    """The mean over runs with its doubt; with `base`, minus the mean of other runs whose seeds are
    not those of `own` (of paired ones, give the difference).

    Args:
        independent: clusters that the doubt rests on (of the smallest class, where there are some).
    """
    sides = [own] if base is None else [own, base]
    value = float(own.points.mean()) - (0.0 if base is None else float(base.points.mean()))
    if independent < 2:
        what = "one independent example alone" if independent == 1 else "no example of its own"
        return Inference(value, None, None, None, None, f"no interval: {what}")
    moves = own.moves.mean(axis=0) - (0.0 if base is None else base.moves.mean(axis=0))
    if not np.isfinite(moves).all() or not math.isfinite(value):
        return Inference(value, None, None, None, None, "no interval: it is not always a number")
    spread = _Spread.of(moves, independent, [side for side in sides if side.several])
    if spread.nothing(value):
        return _alike(value, independent)
    low, high = (spread.reach(1 - CONFIDENCE, side) for side in (-1, 1))
    seen = max(low, high) + spread.reach(2 * (1 - POWER), 1)
    return Inference(value, value - low, value + high, spread.p(value), seen)


def _alike(value: float, clusters: int) -> Inference:
    """Every cluster moved alike: no spread tells an interval, but the sign test is exact."""
    if abs(value) <= _NOTHING:
        said = "no interval: on average no example differs"
        return Inference(value, None, None, 1.0, None, said)
    said = "no interval: all examples, or their clusters, moved alike; p is the sign test's"
    return Inference(value, None, None, min(1.0, 2 * 0.5**clusters), None, said)


@dataclass(frozen=True)
class _Spread:
    """Parts of a mean's variance.

    Attributes:
        whole: what clusters give it, with `both`. clusters: without. freedom: of either.
        seeds: (variance, degrees of freedom) of each side that has several runs.
        skew: of the clusters' moves, over the root of their number.
    """

    whole: float
    clusters: float
    freedom: int
    seeds: tuple[tuple[float, int], ...]
    skew: float

    @classmethod
    def of(cls, moves: Array, independent: int, several: Sequence[Runs]) -> _Spread:
        count = len(moves)
        squares = float(moves @ moves)
        whole = squares / (count * (count - 1))
        cubes = float((moves**3).sum())
        skew = cubes / squares**1.5 if squares > 0 else 0.0
        clusters = max(whole - sum(side.both() for side in several), 0.0)
        seeds = tuple((side.between(), len(side.points) - 1) for side in several)
        return cls(whole, clusters, independent - 1, seeds, skew)

    def nothing(self, value: float) -> bool:
        total = self.whole + sum(variance for variance, _ in self.seeds)
        return math.sqrt(total) <= _NOTHING * max(1.0, abs(value))

    def reach(self, alpha: float, side: int) -> float:
        """How far the interval of 1 - alpha goes below (-1) or above (1) the value."""
        far = self._skewed(student(alpha / 2, self.freedom), side)
        parts = (student(alpha / 2, freedom) ** 2 * variance for variance, freedom in self.seeds)
        return max(math.sqrt(self.clusters * far**2 + sum(parts)), math.sqrt(self.whole) * far)

    def _skewed(self, far: float, side: int) -> float:
        """A quantile of t, or what Hall's cubic turns it into where that is farther."""
        if abs(self.skew) < 1e-9:
            return far
        inner = 1 + self.skew * (-side * far - self.skew / 6)
        hall = 3 / self.skew * (math.cbrt(inner) - 1)
        return max(far, -side * hall)

    def p(self, value: float) -> float:
        """The level at which the interval just reaches zero."""
        from scipy.optimize import brentq

        side = -1 if value > 0 else 1

        def beyond(log_alpha: float) -> float:
            return self.reach(math.exp(log_alpha), side) - abs(value)

        least = math.log(_LEAST_P)
        if beyond(0.0) >= 0:
            return 1.0
        if beyond(least) <= 0:
            return _LEAST_P
        return math.exp(float(brentq(beyond, least, 0.0, xtol=1e-12)))


def student(tail: float, freedom: float) -> float:
    """What Student's t exceeds in this share of draws, as scipy.stats.t.isf has it at thirty times
    the price."""
    return -float(special.stdtrit(freedom, tail))
