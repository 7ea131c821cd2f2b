"""Intervals and tests for shares that stay valid for few rows, and for shares of 0 and 1."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from harness.comparison.intervals import CONFIDENCE, POWER, Inference, student
from harness.comparison.result import Estimate

_ALPHA = 1 - CONFIDENCE
_ANGLES = np.linspace(0.0, np.pi / 2, 181)


def share(correct: float, rows: float, alpha: float = _ALPHA) -> Estimate:
    """A share with its mid-P exact interval (Berry & Armitage, 1995, doi:10.2307/2348891).

    Its coverage is 92.5% or more for every share and every number of rows; that of Wilson's
    interval falls to between 84 and 93%.

    Args:
        correct: how many rows are correct; it need not be a whole number.
        rows: how many rows there are, or an effective number, which need not be whole.
        alpha: the probability outside the interval.
    """
    from scipy.optimize import brentq

    low = brentq(_above, 0, 1, (correct, rows, alpha / 2)) if correct > 0 else 0.0
    high = brentq(_above, 0, 1, (correct, rows, 1 - alpha / 2)) if correct < rows else 1.0
    return Estimate(correct / rows, float(low), float(high))


def share_against(correct: float, rows: float, known: float) -> Inference:
    """A share minus a constant: the interval of `share`, and the p that agrees with it."""
    estimate = share(correct, rows)
    assert estimate.low is not None
    assert estimate.high is not None
    error = math.sqrt(known * (1 - known) / rows)
    return Inference(
        estimate.value - known, estimate.low - known, estimate.high - known,
        share_p(correct, rows, known), _seen(error),
    )  # fmt: skip


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


def paired(up: int, down: int, rows: int) -> Inference:
    """The difference of two shares on the same rows: McNemar's exact test, with an interval that
    contains zero exactly if p is 0.05 or more.

    The difference is the product of two numbers: the share of rows that changed, and how far the
    changes lean one way (-1 to 1). Each has its exact interval (Clopper & Pearson, 1934). As in
    Newcombe (2011, Communications in Statistics 40:3154), the 5% error is divided between the two
    in every possible way, and the interval reaches to the farthest product.

    Args:
        up: how many rows were wrong and are now right.
        down: how many rows were right and are now wrong.
        rows: how many rows there are.
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
    """The ends of the exact interval of a share, each of the shape of `tails`.

    Args:
        tails: the probability outside the interval on one side.
    """
    low = special.betaincinv(count, rows - count + 1, tails) if count > 0 else 0 * tails
    high = special.betaincinv(count + 1, rows - count, 1 - tails) if count < rows else 0 * tails + 1
    return low, high


def difference(correct: int, rows: int, base_correct: int, base_rows: int) -> Inference:
    """One share minus another, of independent samples (Agresti & Caffo, 2000,
    doi:10.1080/00031305.2000.10474560)."""
    from statsmodels.stats.proportion import (
        confint_proportions_2indep,
        test_proportions_2indep,
    )

    counts = (correct, rows, base_correct, base_rows)
    low, high = confint_proportions_2indep(*counts, method="agresti-caffo", alpha=_ALPHA)
    with np.errstate(divide="ignore", invalid="ignore"):  # in an odds ratio, unused
        tested = test_proportions_2indep(*counts, method="agresti-caffo", return_results=True)
    # One success and one failure more on each side keep the standard error from being 0.
    p, q = (correct + 1) / (rows + 2), (base_correct + 1) / (base_rows + 2)
    error = math.sqrt(p * (1 - p) / (rows + 2) + q * (1 - q) / (base_rows + 2))
    value = correct / rows - base_correct / base_rows
    return Inference(value, float(low), float(high), float(tested.pvalue), _seen(error))


def _seen(error: float) -> float:
    """The smallest difference that is detected with 80% power at the 5% level.

    Args:
        error: the standard error of the difference.
    """
    return float(special.ndtri(1 - _ALPHA / 2) + special.ndtri(POWER)) * error
