"""Intervals and tests for shares that stay valid for few rows, and for shares of 0 and 1."""

from __future__ import annotations

from scipy import special

from harness.comparison.intervals import CONFIDENCE, student
from harness.comparison.result import Estimate

_ALPHA = 1 - CONFIDENCE


def share(correct: float, rows: float, alpha: float = _ALPHA) -> Estimate:
    """A share with its mid-P exact interval (Berry & Armitage, 1995, doi:10.2307/2348891).

    Over all shares its coverage is 95% or more on average for any number of rows, and 91.2% at
    the least favourable share; that of Wilson's interval falls to between 79 and 84% there.

    Args:
        correct: how many rows are correct; it need not be a whole number.
        rows: how many rows there are, or an effective number, which need not be whole.
        alpha: the probability outside the interval.
    """
    from scipy.optimize import brentq

    low = brentq(_above, 0, 1, (correct, rows, alpha / 2)) if correct > 0 else 0.0
    high = brentq(_above, 0, 1, (correct, rows, 1 - alpha / 2)) if correct < rows else 1.0
    return Estimate(correct / rows, float(low), float(high))


def share_p(correct: float, rows: float, known: float) -> float:
    """The two-sided mid-P of a share that is truly `known`."""
    above = _above(known, correct, rows, 0.0)
    return min(1.0, 2 * min(above, 1 - above))


def _above(share: float, correct: float, rows: float, less: float) -> float:
    """The mid-P tail minus `less`: the chance of more than `correct` rows, plus half the chance of
    exactly `correct`."""
    more = special.betainc(correct + 1, rows - correct, share) if correct < rows else 0.0
    as_many = special.betainc(correct, rows - correct + 1, share) if correct > 0 else 1.0
    return float(more + as_many) / 2 - less


def effective_rows(value: float, half: float, freedom: int, rows: int) -> float:
    """The effective sample size of a share over clusters or seeds, at most `rows` (Korn & Graubard,
    1998, Survey Methodology 24:193).

    It is the number of independent rows whose share would have an interval of the same width.

    Args:
        value: the share.
        half: half the width of its interval over clusters or seeds.
        freedom: the degrees of freedom that independent rows would have.
    """
    return min(float(rows), 1 + value * (1 - value) * (student(_ALPHA / 2, freedom) / half) ** 2)
