"""Contrasts: a difference whose interval can be had at any confidence, and tested at any value.

A claim with a margin asks whether a difference lies beyond a value other than zero. Each contrast
answers for every value `null` by the same procedure that gives its interval, so that the interval
of level 1 - alpha holds exactly the values with p(null) >= alpha.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from scipy import special

from harness.comparison.intervals import POWER, Ends, Spread, cut, holds, level

NEAR = 0.01
"""A difference closer to its limit than this share of the detectable one would need 10,000 times as
many examples."""
LEAST_P = 1e-60
"""A smaller p is reported as this."""
_MIXED = (-2 * math.log(0.05) + math.log1p(-2 * math.log(0.05))) / 500
"""The variance of the mixture behind intervals for repeated looks: at 95%, they are narrowest at
500 examples. It must not depend on the level, as p would then not be valid at every look."""


def beyond(null: float, value: float, bounds: Ends) -> bool:
    """Whether a difference cannot be `null`, which lies beyond what it can be: no doubt is left,
    whatever the spread is."""
    least, most = bounds
    return holds(bounds, value) and not min(least, value) <= null <= max(most, value)


class Contrast(ABC):
    """A number with its doubt.

    Attributes:
        value: the estimate.
        reason: why it has no interval, or what limits it; empty if nothing does.
    """

    value: float
    reason: str = ""

    @abstractmethod
    def interval(self, alpha: float) -> Ends | None:
        """The interval of level 1 - alpha; None if there is none."""

    @abstractmethod
    def p(self, null: float) -> float | None:
        """The level at which the interval's nearer end reaches `null`; None if there is no test."""

    def error(self) -> float | None:
        """The standard error; None if it is unknown."""
        return None

    def fixed(self) -> float:
        """The part of the squared standard error that more examples do not reduce."""
        return 0.0

    def needed(self, null: float, alpha: float, n: int) -> tuple[int | None, str]:
        """How many more examples tell the value from `null` in 80% of such experiments, if the
        value and its spread stay as they are; None with the reason if no number of them does.

        Args:
            n: how many examples there are.
        """
        error, seen, gap = self.error(), self.detectable(alpha, null), abs(self.value - null)
        if not error or seen is None:
            return None, ""
        if gap < NEAR * seen:
            return None, "the difference lies so close to the limit that no test set would do"
        ends = self.interval(alpha)
        reach = 0.0 if ends is None else abs(ends[self.value < null] - self.value)
        target = (error * gap / max(seen, reach)) ** 2 - self.fixed()
        if target <= 0:
            return None, "more examples alone would not do; more seeds would"
        total = math.ceil(n * (error**2 - self.fixed()) / target)
        return (total - n if total > n else None), ""

    def detectable(self, alpha: float, null: float = 0.0, power: float = POWER) -> float | None:
        """How far beyond `null` the truth must be so that such experiments show it.

        Args:
            power: in how many of them.
        """
        error = self.error()
        if error is None:
            return None
        return float(special.ndtri(1 - alpha / 2) + special.ndtri(power)) * error


@dataclass(frozen=True)
class Moved(Contrast):
    """A difference of means or of corpus metrics, over clusters and training seeds.

    Attributes:
        bounds: the least and the greatest value that the difference can have.
    """

    value: float
    spread: Spread
    bounds: Ends = (-math.inf, math.inf)
    reason: str = ""

    def interval(self, alpha: float) -> Ends | None:
        low, high = (self.value + side * self.spread.reach(alpha, side) for side in (-1, 1))
        return cut((low, high), self.value, self.bounds)

    def p(self, null: float) -> float | None:
        if beyond(null, self.value, self.bounds):
            return LEAST_P
        return self.spread.p(self.value - null)

    def error(self) -> float | None:
        return self.spread.error

    def fixed(self) -> float:
        return sum(variance for variance, _ in self.spread.seeds)

    def detectable(self, alpha: float, null: float = 0.0, power: float = POWER) -> float | None:
        reach = max(self.spread.reach(alpha, side) for side in (-1, 1))
        return reach + self.spread.reach(2 * (1 - power), 1)


@dataclass(frozen=True)
class Watched(Contrast):
    """A difference that may be looked at after every example that is added: all its intervals
    together hold the truth with the confidence of one.

    The asymptotic confidence sequence of Waudby-Smith et al. (2024, Annals of Statistics 52:2613,
    theorem 2.2), which is the mixture boundary of Howard et al. (2021, Annals of Statistics
    49:1055) with the variance estimated. It is never narrower than the interval of a single look.

    Attributes:
        once: the same difference for a single look.
        clusters: how many independent clusters of examples there are by now.
    """

    once: Moved
    clusters: int

    @property
    def value(self) -> float:  # type: ignore[override]
        """The difference."""
        return self.once.value

    def interval(self, alpha: float) -> Ends | None:
        low, high = (self.value + side * self._reach(alpha, side) for side in (-1, 1))
        return cut((low, high), self.value, self.once.bounds)

    def p(self, null: float) -> float | None:
        if beyond(null, self.value, self.once.bounds):
            return LEAST_P
        gap = self.value - null
        side = -1 if gap > 0 else 1
        return level(lambda alpha: self._reach(alpha, side) - abs(gap))

    def error(self) -> float | None:
        return self.once.error()

    def fixed(self) -> float:
        return self.once.fixed()

    def detectable(self, alpha: float, null: float = 0.0, power: float = POWER) -> float | None:
        reach = max(self._reach(alpha, side) for side in (-1, 1))
        return reach + self.once.spread.reach(2 * (1 - power), 1)

    def _reach(self, alpha: float, side: int) -> float:
        grown = self.clusters * _MIXED + 1
        errors = math.sqrt(2 * grown / (grown - 1) * math.log(math.sqrt(grown) / alpha))
        return max(errors * self.once.spread.error, self.once.spread.reach(alpha, side))


@dataclass(frozen=True)
class Alike(Contrast):
    """A difference that is the same for every cluster: there is no spread to measure.

    The sign test tells how sure it is that clusters lie on one side of a value at all; it has no
    interval. If none differs and the metric is bounded, there is one: at most so large a share of
    clusters differ, and those by no more than the whole range (Clopper & Pearson, 1934).

    Attributes:
        bounds: the least and the greatest difference that one example can have; infinite if there
            are no such bounds, or if the metric is no mean over examples.
    """

    value: float
    clusters: int
    bounds: Ends = (-math.inf, math.inf)

    @property
    def reason(self) -> str:  # type: ignore[override]
        """Why there is no interval, or what it rests on."""
        if self._bounded:
            return "on average no example differs"
        if self.value == 0:
            return "no interval: on average no example differs"
        return "no interval: all examples, or their clusters, moved alike; p is the sign test's"

    @property
    def span(self) -> float:
        """The size of the largest difference that one example can have."""
        return max(map(abs, self.bounds))

    @property
    def _bounded(self) -> bool:
        return self.value == 0 and math.isfinite(self.span)

    def interval(self, alpha: float) -> Ends | None:
        if not self._bounded:
            return None
        half = self.span * (1 - (alpha / 2) ** (1 / self.clusters))
        return cut((-half, half), self.value, self.bounds)

    def p(self, null: float) -> float | None:
        if null == self.value:
            return 1.0
        if self._bounded and beyond(null, self.value, self.bounds):
            return LEAST_P
        if self._bounded:
            least = max(1 - abs(null) / self.span, 0.0)
            return max(LEAST_P, min(1.0, 2 * least**self.clusters))
        return max(LEAST_P, 2 * 0.5**self.clusters)


@dataclass(frozen=True)
class Ranged(Contrast):
    """A difference that surely lies in a range: of counted costs, of a checkpoint from itself, of
    times whose noise is known."""

    value: float
    low: float
    high: float
    reason: str = ""

    def interval(self, alpha: float) -> Ends | None:
        return self.low, self.high

    def p(self, null: float) -> float | None:
        return None


@dataclass(frozen=True)
class Untold(Contrast):
    """A difference whose doubt nobody can tell."""

    value: float
    reason: str

    def interval(self, alpha: float) -> Ends | None:
        return None

    def p(self, null: float) -> float | None:
        return None
