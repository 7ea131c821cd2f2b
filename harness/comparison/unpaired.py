"""Differences of two metrics of which only values and standard errors are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.comparison.contrasts import LEAST_P, Contrast, Untold, beyond
from harness.comparison.differences import bounds_of
from harness.comparison.groups import Group
from harness.comparison.intervals import POWER, Ends, cut, level, student
from harness.comparison.limits import Limit, detectable, limits_of, p_of
from harness.comparison.measured import Measured
from harness.comparison.result import ClaimVerdict, Estimate
from harness.comparison.share_contrasts import OneShare
from harness.suite.claims import Claim

Parts = tuple[tuple[float, float], ...]
NOTE = "unpaired: no scores of examples are known, which would most likely show more"
NO_SPREAD = "one figure without a standard error: no test"


def summary(metric: Measured) -> Measured:
    """The metric without its scores of examples, whose spread gives the standard error."""
    if metric.examples is None:
        return metric
    group = Group.of({0: metric.scores()})
    count, moves = group.independent, group.runs.moves.mean(axis=0)
    spread = float(moves @ moves) / (len(moves) * (len(moves) - 1)) if len(moves) > 1 else 0.0
    error = math.sqrt(spread) if count > 1 else None
    return replace(metric, examples=None, columns={}, original=None, stderr=error)


def hits(metric: Measured) -> int | None:
    """How many examples are right, if the metric is a share of examples with the standard error of
    one, which lm-eval and PEFT publish: sqrt(p(1-p)/(n-1)), or with n."""
    n, value = metric.n, metric.value
    if n is None or n < 2 or not 0 <= value <= 1 or metric.stderr is None:
        return None
    count = round(value * n)
    if not math.isclose(count / n, value, abs_tol=1e-6):
        return None
    expected = [math.sqrt(value * (1 - value) / rows) for rows in (n, n - 1)]
    close = any(math.isclose(metric.stderr, e, rel_tol=1e-3, abs_tol=1e-9) for e in expected)
    return count if close else None


@dataclass(frozen=True)
class Figure:
    """What is known of a metric without scores of examples.

    Attributes:
        n: how many examples there are; None if that is not known.
        right: how many of them are right, if the metric is their share; else None.
        parts: (variance, degrees of freedom) of each part of its doubt; none: it is not known.
        bounds: the least and the greatest value that the metric can have.
    """

    value: float
    n: int | None
    right: int | None
    parts: Parts
    bounds: Ends = (-math.inf, math.inf)

    @classmethod
    def of(cls, runs: Sequence[Measured]) -> Figure:
        """The mean over the runs of one variant.

        The runs have the same examples, whose noise their mean does not reduce; how the runs differ
        is a part by itself, with as few degrees of freedom as there are runs but one.
        """
        known = [summary(metric) for metric in runs]
        value, first = sum(metric.value for metric in known) / len(known), known[0]
        errors = [metric.stderr for metric in known if metric.stderr is not None]
        freedom = math.inf if first.n is None else max(first.n - 1, 1)
        parts = [(sum(error**2 for error in errors) / len(errors), freedom)] if errors else []
        if len(known) == 1:
            return cls(value, first.n, hits(first), tuple(parts), first.bounds)
        between = sum((metric.value - value) ** 2 for metric in known) / (len(known) - 1)
        parts.append((between / len(known), len(known) - 1))
        return cls(value, first.n, None, tuple(parts), first.bounds)

    def plus_two(self) -> tuple[float, float]:
        """The share with one success and one failure more, which keep its variance from being 0,
        and that variance."""
        rows = (self.n or 0) + 2
        share = ((self.right or 0) + 1) / rows
        return share, share * (1 - share) / rows


@dataclass(frozen=True)
class Apart(Contrast):
    """The difference of two metrics that were measured apart from each other.

    The half-width of its interval is the root of the sum of each part's squared deviation, as in
    harness.comparison.intervals. The interval always holds the difference itself, also where its
    middle lies elsewhere and the confidence is low; p is the level at which it reaches a value.

    Attributes:
        middle: the middle of its interval; of shares it lies nearer to one half (Agresti & Caffo,
            2000, doi:10.1080/00031305.2000.10474560).
        parts: (variance, degrees of freedom) of each part of its squared standard error.
        bounds: the least and the greatest value that the difference can have.
    """

    value: float
    middle: float
    parts: Parts
    bounds: Ends = (-math.inf, math.inf)
    reason: str = NOTE

    def interval(self, alpha: float) -> Ends | None:
        reach = self._reach(alpha)
        low, high = min(self.middle - reach, self.value), max(self.middle + reach, self.value)
        return cut((low, high), self.value, self.bounds)

    def p(self, null: float) -> float | None:
        if beyond(null, self.value, self.bounds):
            return LEAST_P
        gap = abs(self.middle - null)
        if (self.middle - null) * (self.value - null) <= 0:
            return 1.0
        return level(lambda alpha: self._reach(alpha) - gap)

    def error(self) -> float | None:
        return math.sqrt(sum(variance for variance, _ in self.parts))

    def detectable(self, alpha: float, null: float = 0.0, power: float = POWER) -> float | None:
        return self._reach(alpha) + self._reach(2 * (1 - power))

    def _reach(self, alpha: float) -> float:
        return math.sqrt(sum(student(alpha / 2, free) ** 2 * part for part, free in self.parts))


def contrast_of(one: Figure, base: Figure | float, ratio: float = 1.0) -> Contrast:
    """`one` less `ratio` times `base`, as if they were measured on other examples.

    Shares are compared as Agresti & Caffo (2000) do, or with a constant by their mid-P exact
    interval; all else by Student's t.
    """
    if isinstance(base, float):
        if one.right is not None and one.n is not None:
            return OneShare(float(one.right), float(one.n), ratio * base)
        base = Figure(base, None, None, ((0.0, math.inf),), (base, base))
    value = one.value - ratio * base.value
    if one.right is not None and base.right is not None:
        (ours, spread), (theirs, other_spread) = one.plus_two(), base.plus_two()
        both = ((spread + ratio**2 * other_spread, math.inf),)
        bounds = bounds_of((0.0, 1.0), (0.0, 1.0), ratio)
        return Apart(value, ours - ratio * theirs, both, bounds)
    if not one.parts or not base.parts:
        return Untold(value, NO_SPREAD)
    parts = (*one.parts, *((ratio**2 * part, freedom) for part, freedom in base.parts))
    if not any(part for part, _ in parts):
        return Untold(value, "no interval: the standard errors are 0")
    return Apart(value, value, parts, bounds_of(one.bounds, base.bounds, ratio))


@dataclass(frozen=True)
class Summaries:
    """A claim about metrics of which a side has no scores of examples.

    Attributes:
        blank: the verdict that is filled in.
        candidate: the metric of each run.
        reference: that of the other side's runs, or a constant.
    """

    claim: Claim
    blank: ClaimVerdict
    candidate: Sequence[Measured]
    reference: Sequence[Measured] | float | None

    def measured(self) -> tuple[ClaimVerdict, Sequence[Limit]]:
        """The numbers of the claim before the adjustment of p, with its limits."""
        reference = self.reference
        if (
            not self.candidate
            or reference is None
            or not (isinstance(reference, float) or reference)
        ):
            lacking = self.blank.against if self.candidate else self.blank.variant
            return replace(self.blank, reason=f"{lacking} has no {self.blank.metric}"), ()
        one = Figure.of(self.candidate)
        other = reference if isinstance(reference, float) else Figure.of(reference)
        first, sides = self.candidate[0], (self.candidate, reference)
        several = any(len(side) > 1 for side in sides if not isinstance(side, float))
        shown = contrast_of(one, other, self.claim.times)
        ends = shown.interval(self.claim.alpha)
        verdict = replace(
            self.blank, estimate=one.value,
            reference=other if isinstance(other, float) else other.value, n=one.n or 0,
            seeds=len(self.candidate), level="method" if several else "checkpoint",
            unit=first.unit,
            difference=Estimate(shown.value, *(ends or ())), reason=shown.reason,
        )  # fmt: skip
        if ends is None:
            return verdict, ()
        limits = limits_of(self.claim, 1 if first.higher_is_better else -1,
                           lambda ratio: contrast_of(one, other, ratio))  # fmt: skip
        seen = detectable(limits, self.claim.alpha)
        return replace(verdict, verdict="inconclusive", p=p_of(limits), detectable=seen), limits
