"""Differences of two metrics of which only values and standard errors are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy import special

from harness.comparison import binomial
from harness.comparison.contrasts import Contrast, Ends
from harness.comparison.groups import Group
from harness.comparison.intervals import CONFIDENCE, POWER, Inference
from harness.comparison.limits import Limit, limits_of, p_of
from harness.comparison.measured import Measured
from harness.comparison.result import ClaimVerdict, Estimate
from harness.suite.claims import Claim

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


def difference(metric: Measured, base: Measured) -> Inference:
    """`metric` minus `base` as if they were measured on other examples.

    Shares are compared as Agresti & Caffo (2000) do, all else by the normal distribution of the sum
    of the squared standard errors.
    """
    ours, theirs = hits(metric), hits(base)
    if ours is not None and theirs is not None:
        assert metric.n is not None
        assert base.n is not None
        return binomial.difference(ours, metric.n, theirs, base.n)
    value = metric.value - base.value
    if metric.stderr is None or base.stderr is None:
        return Inference(value, None, None, None, None, NO_SPREAD)
    error = math.hypot(metric.stderr, base.stderr)
    if error == 0:
        return Inference(value, None, None, None, None, "no interval: both standard errors are 0")
    far = float(special.ndtri(1 - (1 - CONFIDENCE) / 2))
    p = 2 * float(special.ndtr(-abs(value) / error))
    seen = (far + float(special.ndtri(POWER))) * error
    return Inference(value, value - far * error, value + far * error, p, seen)


@dataclass(frozen=True)
class Apart(Contrast):
    """The difference of two metrics that were measured apart from each other.

    Attributes:
        middle: the middle of its interval; of shares it lies nearer to one half (Agresti & Caffo,
            2000, doi:10.1080/00031305.2000.10474560).
        spread: its standard error.
    """

    value: float
    middle: float
    spread: float
    reason: str = NOTE

    def interval(self, alpha: float) -> Ends | None:
        reach = float(special.ndtri(1 - alpha / 2)) * self.spread
        return self.middle - reach, self.middle + reach

    def p(self, null: float) -> float | None:
        return 2 * float(special.ndtr(-abs(self.middle - null) / self.spread))

    def error(self) -> float | None:
        return self.spread


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
        if self.reference is None or (not isinstance(self.reference, float) and not self.reference):
            reason = f"{self.blank.against} has no {self.blank.metric}"
            return replace(self.blank, reason=reason), ()
        one, other = _pooled(self.candidate), _reference(self.reference)
        verdict = replace(
            self.blank, estimate=one.value, reference=other.value, n=one.n or 0,
            seeds=len(self.candidate), level="checkpoint", unit=one.unit,
            difference=Estimate(one.value - self.claim.times * other.value),
        )  # fmt: skip
        if one.stderr is None or other.stderr is None or math.hypot(one.stderr, other.stderr) == 0:
            return replace(verdict, reason=NO_SPREAD), ()
        limits = limits_of(self.claim, 1 if one.higher_is_better else -1,
                           lambda ratio: _apart(one, other, ratio))  # fmt: skip
        shown = _apart(one, other, self.claim.times)
        ends = shown.interval(self.claim.alpha)
        assert ends is not None
        return replace(
            verdict, verdict="inconclusive", difference=Estimate(shown.value, *ends),
            p=p_of(limits), detectable=shown.detectable(self.claim.alpha), reason=shown.reason,
        ), limits  # fmt: skip


def _pooled(runs: Sequence[Measured]) -> Measured:
    """The mean over runs of one variant. With several runs, their spread is the standard error."""
    told = [summary(metric) for metric in runs]
    if len(told) == 1:
        return told[0]
    values = [metric.value for metric in told]
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    return replace(told[0], value=mean, stderr=spread)


def _reference(reference: Sequence[Measured] | float) -> Measured:
    if isinstance(reference, float):
        return Measured("", "", reference, stderr=0.0)
    return _pooled(reference)


def _apart(one: Measured, other: Measured, ratio: float) -> Apart:
    middles, squares = [], []
    for metric in (one, other):
        count = hits(metric)
        if count is None or metric.n is None:
            middles.append(metric.value)
            squares.append((metric.stderr or 0.0) ** 2)
        else:
            share = (count + 1) / (metric.n + 2)
            middles.append(share)
            squares.append(share * (1 - share) / (metric.n + 2))
    return Apart(
        one.value - ratio * other.value, middles[0] - ratio * middles[1],
        math.sqrt(squares[0] + ratio**2 * squares[1]),
    )  # fmt: skip
