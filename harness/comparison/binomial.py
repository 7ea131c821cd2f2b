"""Shares: intervals that hold for few examples and for none or all of them, and tests of two."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from harness.comparison.intervals import CONFIDENCE, POWER, Inference, student
from harness.comparison.result import Estimate

_ALPHA = 1 - CONFIDENCE
_ANGLES = np.linspace(0.0, np.pi / 2, 181)


def share(correct: float, rows: float) -> Estimate:
    """A share with its mid-P exact interval (Berry & Armitage, 1995, doi:10.2307/2348891), which
    covers 92.5% or more for any share of any number of rows where Wilson's has 84 to 93%.

    Args:
        rows: their number, or an effective one, which need not be whole.
    """
    from scipy.optimize import brentq

    low = brentq(_above, 0, 1, (correct, rows, _ALPHA / 2)) if correct > 0 else 0.0
    high = brentq(_above, 0, 1, (correct, rows, 1 - _ALPHA / 2)) if correct < rows else 1.0
    return Estimate(correct / rows, float(low), float(high))


def share_against(correct: float, rows: float, known: float) -> Inference:
    """A share minus a known number: the interval of `share`, and the p that agrees with it."""
    found = share(correct, rows)
    assert found.low is not None
    assert found.high is not None
    above = _above(known, correct, rows, 0.0)
    error = math.sqrt(known * (1 - known) / rows)
    return Inference(
        found.value - known, found.low - known, found.high - known,
        min(1.0, 2 * min(above, 1 - above)), _seen(error),
    )  # fmt: skip


def _above(share: float, correct: float, rows: float, less: float) -> float:
    """Chance of more than `correct` rows, half the chance of just as many counted in."""
    more = special.betainc(correct + 1, rows - correct, share) if correct < rows else 0.0
    as_many = special.betainc(correct, rows - correct + 1, share) if correct > 0 else 1.0
    return float(more + as_many) / 2 - less


def effective_rows(value: float, half: float, freedom: int, rows: int) -> float:
    """Rows whose share would be as uncertain as one with an interval of this half-width over
    clusters or seeds (Korn & Graubard, 1998, Survey Methodology 24:193); at most `rows`.

    Args:
        freedom: degrees of freedom that rows by themselves would have.
    """
    return min(float(rows), 1 + value * (1 - value) * (student(_ALPHA / 2, freedom) / half) ** 2)


def paired(up: int, down: int, rows: int) -> Inference:
    """The difference of two shares on the same rows: exact McNemar, and an interval that holds zero
    just where its p is 0.05 or more.

    The difference is the share of rows that changed times how far the changes lean one way: each
    has its exact interval (Clopper & Pearson, 1934), and these are combined as in Newcombe (2011,
    Communications in Statistics 40:3154): the farthest product over the ways to divide the doubt.

    Args:
        up: rows that were wrong and are right. down: the other way. rows: all of them.
    """
    changed, z = up + down, special.ndtri(1 - _ALPHA / 2)
    few, many = _exact(changed, rows, special.ndtr(-z * np.cos(_ANGLES)))
    least, most = (2 * end - 1 for end in _exact(up, changed, special.ndtr(-z * np.sin(_ANGLES))))
    low = float(np.minimum(few * least, many * least).min())
    high = float(np.maximum(few * most, many * most).max())
    p = min(1.0, 2 * float(special.bdtr(min(up, down), changed, 0.5)))
    error = math.sqrt((changed + 1) / (rows + 2) / rows)
    return Inference((up - down) / rows, low, high, p, _seen(error))


def _exact(count: int, rows: int, tails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the exact interval of a share, for each chance in one tail."""
    low = special.betaincinv(count, rows - count + 1, tails) if count > 0 else 0 * tails
    high = special.betaincinv(count + 1, rows - count, 1 - tails) if count < rows else 0 * tails + 1
    return low, high


def difference(correct: int, rows: int, base_correct: int, base_rows: int) -> Inference:
    """One share minus another, as independent samples: interval, two-sided p, and what 80% of such
    experiments would have seen (Agresti & Caffo, 2000, doi:10.1080/00031305.2000.10474560)."""
    from statsmodels.stats.proportion import (
        confint_proportions_2indep,
        test_proportions_2indep,
    )

    counts = (correct, rows, base_correct, base_rows)
    low, high = confint_proportions_2indep(*counts, method="agresti-caffo", alpha=_ALPHA)
    with np.errstate(divide="ignore", invalid="ignore"):  # an odds ratio that is not asked for
        tested = test_proportions_2indep(*counts, method="agresti-caffo", return_results=True)
    # Its own standard error: one more success and failure on each side keeps it from being 0.
    p, q = (correct + 1) / (rows + 2), (base_correct + 1) / (base_rows + 2)
    error = math.sqrt(p * (1 - p) / (rows + 2) + q * (1 - q) / (base_rows + 2))
    value = correct / rows - base_correct / base_rows
    return Inference(value, float(low), float(high), float(tested.pvalue), _seen(error))


def _seen(error: float) -> float:
    """The smallest difference seen with 80% power at the 5% level, by its standard error."""
    return float(special.ndtri(1 - _ALPHA / 2) + special.ndtri(POWER)) * error
