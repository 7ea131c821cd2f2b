"""The interval and the test of a number, from how clusters of examples and training seeds move it.

One procedure gives both: p is the level at which the nearer end of the interval reaches zero. So
the 95% interval contains zero exactly if p is 0.05 or more.

*One checkpoint*: Student's t over clusters, and the same with Hall's correction for skew (Hall,
1992, Journal of the Royal Statistical Society B 54:221). Each end of the interval is the farther of
the two. t alone is too narrow for skewed examples, and the correction alone for heavy tails.

*A method*: seeds (training runs) and clusters are crossed, d = mean + seed + cluster + both
(Brennan, 2001, Generalizability Theory, ch. 3). With S seeds and G clusters the variance of the
mean is clusters/G + (seeds/S + both/SG). The part in brackets is the variance of the seeds' means
over S, with S-1 degrees of freedom. The first part is the variance over clusters without `both`,
which would otherwise count twice. Each part's deviation is multiplied by its own t quantile, and
the half-width is the root of the sum of their squares (Banerjee, 1960, Sankhya 22). That holds its
level whatever the proportion of the parts; Satterthwaite's single number of degrees of freedom does
not with two or three seeds. A method's interval is never narrower than the interval of its mean
over these very checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from harness.comparison.statistics import Array

Ends = tuple[float, float]
CONFIDENCE = 0.95
POWER = 0.8
_NOTHING = 1e-12
"""A spread below this share of the value is a rounding error."""
_ROUNDING = 1e-5
"""A value so far beyond a bound, as a share of it, is there by rounding: scores of single precision
are."""
_LEAST_P = 1e-60
"""A smaller p is reported as this."""
_LARGEST = 1e100
"""Cubes of larger values are no numbers."""


@dataclass(frozen=True)
class Inference:
    """A number with its uncertainty.

    Attributes:
        low, high: the ends of the 95% interval; None if there is none.
        p: two-sided, of the hypothesis that the true value is zero.
        detectable: the smallest difference that 80% of such experiments would detect.
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
        """True if there is no interval because nothing varies."""
        return self.low is None and self.p is not None

    def within(self, least: float, most: float) -> Inference:
        """The interval cut to the values that the number can have (see `cut`); it contains zero as
        before."""
        if self.low is None or self.high is None:
            return self
        low, high = cut((self.low, self.high), self.value, (least, most))
        return replace(self, low=low, high=high)


def cut(ends: Ends, value: float, bounds: Ends) -> Ends:
    """An interval cut to the values that the number can have; it still contains the value.

    What is cut off cannot be the truth, so that the cut interval contains it exactly as often: no
    confidence is lost (Mandelkern, 2002, Statistical Science 17:149, on bounded parameters). A
    value that rounding took beyond a bound, such as a cosine of 1.0000001, stays an end of its
    interval. One that lies farther out says that the bounds are wrong: then nothing is cut.
    """
    if not holds(bounds, value):
        return ends
    (low, high), (least, most) = ends, bounds
    return max(low, min(least, value)), min(high, max(most, value))


def holds(bounds: Ends, value: float) -> bool:
    """Whether a value lies within bounds, rounding aside."""
    least, most = bounds
    below, above = (_ROUNDING * max(1.0, abs(end)) for end in bounds)
    return least - below <= value <= most + above


@dataclass(frozen=True)
class Runs:
    """S training runs on the same G clusters.

    Attributes:
        points: the metric of each run, shape (S,).
        moves: how far each cluster moves it, shape (S, G), as `Sample.moves` computes it.
    """

    points: Array
    moves: Array

    def __sub__(self, other: Runs) -> Runs:
        """The differences run by run, for runs that belong together (of the same seeds)."""
        return Runs(self.points - other.points, self.moves - other.moves)

    @property
    def several(self) -> bool:
        """True if there are at least two runs."""
        return len(self.points) > 1

    def between(self) -> float:
        """The part of the mean's variance that runs cause: seeds/S + both/SG."""
        return float(np.var(self.points, ddof=1)) / len(self.points)

    def both(self) -> float:
        """The part of the mean's variance that runs and clusters cause together: both/SG."""
        runs, clusters = self.moves.shape
        squares = float(((self.moves - self.moves.mean(axis=0)) ** 2).sum())
        return squares / float((runs - 1) * (clusters - 1) * runs * clusters)


def infer(runs: Runs, independent: int, base: Runs | None = None) -> Inference:
    """The mean over runs with its uncertainty; with `base`, the difference from the mean over base.

    Args:
        runs: for paired runs, give their difference here and no `base`.
        independent: the number of clusters that the uncertainty depends on, as
            `Sample.independent` computes it.
        base: runs of other seeds, independent of `runs`.
    """
    value, spread, reason = spread_of(runs, independent, base)
    if spread is None:
        return Inference(value, None, None, None, None, reason)
    if spread.nothing(value):
        return _alike(value, independent)
    low, high = (spread.reach(1 - CONFIDENCE, side) for side in (-1, 1))
    seen = max(low, high) + spread.reach(2 * (1 - POWER), 1)
    return Inference(value, value - low, value + high, spread.p(value), seen)


def spread_of(
    runs: Runs, independent: int, base: Runs | None = None
) -> tuple[float, Spread | None, str]:
    """The mean over runs, or its difference from the mean over `base`, with its spread; None and
    the reason if there is none. The arguments are those of `infer`."""
    sides = [runs] if base is None else [runs, base]
    value = float(runs.points.mean()) - (0.0 if base is None else float(base.points.mean()))
    if independent < 2:
        what = "one independent example alone" if independent == 1 else "no independent example"
        return value, None, f"no interval: {what}"
    moves = runs.moves.mean(axis=0) - (0.0 if base is None else base.moves.mean(axis=0))
    if not np.isfinite(moves).all() or not math.isfinite(value):
        return value, None, "no interval: it is not always a number"
    if max(abs(value), *(np.abs(side.moves).max() for side in sides)) > _LARGEST:
        return value, None, "no interval: it is too large"
    return value, Spread.of(moves, independent, [side for side in sides if side.several]), ""


def _alike(value: float, clusters: int) -> Inference:
    """The inference where every cluster moves alike: without a spread there is no interval, but
    the sign test is exact."""
    if abs(value) <= _NOTHING:
        said = "no interval: on average no example differs"
        return Inference(value, None, None, 1.0, None, said)
    said = "no interval: all examples, or their clusters, moved alike; p is the sign test's"
    return Inference(value, None, None, 2 * 0.5**clusters, None, said)


@dataclass(frozen=True)
class Spread:
    """The parts of a mean's variance.

    Attributes:
        whole: the part that clusters cause, with `both`.
        clusters: the part that clusters cause, without `both`.
        freedom: the degrees of freedom of `whole` and of `clusters`.
        seeds: (variance, degrees of freedom) of each side that has several runs.
        skew: the skewness of the clusters' moves over the root of their number.
    """

    whole: float
    clusters: float
    freedom: int
    seeds: tuple[tuple[float, int], ...]
    skew: float

    @classmethod
    def of(cls, moves: Array, independent: int, several: Sequence[Runs]) -> Spread:
        count = len(moves)
        squares = float(moves @ moves)
        whole = squares / (count * (count - 1))
        cubes = float((moves**3).sum())
        size = squares**1.5
        skew = cubes / size if size > 0 else 0.0
        clusters = max(whole - sum(side.both() for side in several), 0.0)
        seeds = tuple((side.between(), len(side.points) - 1) for side in several)
        return cls(whole, clusters, independent - 1, seeds, skew)

    def nothing(self, value: float) -> bool:
        """True if the whole spread is a rounding error of this value."""
        total = self.whole + sum(variance for variance, _ in self.seeds)
        return math.sqrt(total) <= _NOTHING * max(1.0, abs(value))

    @property
    def error(self) -> float:
        """The standard error of the value."""
        total = self.clusters + sum(variance for variance, _ in self.seeds)
        return math.sqrt(max(total, self.whole))

    def reach(self, alpha: float, side: int) -> float:
        """How far the interval of level 1 - alpha reaches below (side -1) or above (side 1) the
        value."""
        far = self._skewed(student(alpha / 2, self.freedom), side)
        parts = (student(alpha / 2, freedom) ** 2 * variance for variance, freedom in self.seeds)
        return max(math.sqrt(self.clusters * far**2 + sum(parts)), math.sqrt(self.whole) * far)

    def _skewed(self, far: float, side: int) -> float:
        """The farther of a quantile of t and the same after Hall's cubic transformation."""
        if abs(self.skew) < 1e-9:
            return far
        inner = 1 + self.skew * (-side * far - self.skew / 6)
        hall = 3 / self.skew * (math.cbrt(inner) - 1)
        return max(far, -side * hall)

    def p(self, value: float) -> float:
        """The level at which the interval's nearer end is zero."""
        side = -1 if value > 0 else 1
        return level(lambda alpha: self.reach(alpha, side) - abs(value))


def level(beyond: Callable[[float], float]) -> float:
    """The alpha at which an interval just reaches some value: 1 if every interval does, and a tiny
    number instead of 0.

    Args:
        beyond: how far the interval of level 1 - alpha reaches beyond that value.
    """
    from scipy.optimize import brentq

    least = math.log(_LEAST_P)
    if beyond(1.0) >= 0:
        return 1.0
    if beyond(_LEAST_P) <= 0:
        return _LEAST_P
    return math.exp(float(brentq(lambda log: beyond(math.exp(log)), least, 0.0, xtol=1e-12)))


def student(tail: float, freedom: float) -> float:
    """The value that Student's t exceeds with probability `tail`.

    scipy.stats.t.isf computes the same, thirty times slower.
    """
    return -float(special.stdtrit(freedom, tail))
