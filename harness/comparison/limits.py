"""The limits of a claim: what its difference must lie above or below."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.comparison.contrasts import Contrast
from harness.comparison.intervals import POWER
from harness.comparison.power import EACH_OF_TWO
from harness.comparison.result import Outcome
from harness.suite.claims import Claim


@dataclass(frozen=True)
class Limit:
    """One side of what a claim says: the contrast lies above (side 1) or below (side -1) a
    value."""

    contrast: Contrast
    null: float
    side: int

    @property
    def gap(self) -> float:
        """How far the estimate lies on the claimed side of the limit; negative beyond it."""
        return self.side * (self.contrast.value - self.null)

    @property
    def p(self) -> float | None:
        """The level at which the interval reaches the limit."""
        return self.contrast.p(self.null)


def limits_of(claim: Claim, up: int, contrast: Callable[[float], Contrast]) -> list[Limit]:
    """What the claim says, as one limit, or as two for `equal`.

    Args:
        up: 1 if a higher value is better, -1 if a lower one is.
        contrast: the variant's value less so many times the other's. A margin that is a share of
            the other's value is a limit on such a contrast, so that the doubt of both values
            counts.
    """
    if claim.bound:
        side = -1 if claim.relation == "at_most" else 1
        return [Limit(contrast(claim.times), 0.0, side)]
    # Of each limit: which way of the other's value it lies, and which side of it is claimed.
    ways = {
        "better": [(up, up)],
        "worse": [(-up, -up)],
        "not_worse": [(-up, up)],
        "equal": [(-1, 1), (1, -1)],
    }[claim.relation]
    if claim.relative:
        # A share of the size of the other's value, which may be negative.
        other = contrast(0.0).value - contrast(1.0).value
        share = math.copysign(claim.margin_size, other)
        return [Limit(contrast(1 + way * share), 0.0, side) for way, side in ways]
    return [Limit(contrast(1.0), way * claim.margin_size, side) for way, side in ways]


def p_of(limits: Sequence[Limit]) -> float | None:
    """The level at which the claim ceases to be inconclusive: to support it, every limit must be
    passed; to refute it, missing one is enough."""
    values = [(limit.gap, p) for limit in limits if (p := limit.p) is not None]
    if len(values) < len(limits):
        return None
    missed = [p for gap, p in values if gap <= 0]
    return min(missed) if missed else max(p for _, p in values)


def detectable(limits: Sequence[Limit], alpha: float) -> float | None:
    """How far beyond its limit the truth must be so that 80% of such experiments support the claim.

    `equal` is supported if both limits are passed: the truth must be so far inside both of them.
    """
    power = POWER if len(limits) == 1 else EACH_OF_TWO
    known = [limit.contrast.detectable(alpha, limit.null, power) for limit in limits]
    return max((gap for gap in known if gap is not None), default=None)


def by_range(claim: Claim, limits: Sequence[Limit]) -> Outcome:
    """The verdict where the true value is known to lie in a range; only `better` and `worse` are
    strict."""
    strict = claim.relation in ("better", "worse")
    passed, missed = [], []
    for limit in limits:
        ends = limit.contrast.interval(claim.alpha) or (-math.inf, math.inf)
        least, most = sorted(limit.side * (end - limit.null) for end in ends)
        passed.append(least > 0 or (least == 0 and not strict))
        missed.append(most < 0 or (most == 0 and strict))
    return "supported" if all(passed) else "refuted" if any(missed) else "inconclusive"
