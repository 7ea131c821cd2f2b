"""Shares of which only the counts are known: intervals, and a test of two of them."""

from __future__ import annotations

import math

from scipy import stats

from harness.compare.result import Estimate
from harness.compare.statistics import CONFIDENCE, POWER, Inference

_ALPHA = 1 - CONFIDENCE


def share(correct: int, rows: int) -> Estimate:
    """A share with Wilson's interval (Wilson, 1927), by statsmodels."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(correct, rows, alpha=_ALPHA, method="wilson")
    return Estimate(correct / rows, float(low), float(high))


def difference(correct: int, rows: int, base_correct: int, base_rows: int) -> Inference:
    """One share minus another, as independent samples: interval, two-sided p, and what 80% of such
    experiments would have seen (Agresti & Caffo, 2000, doi:10.1080/00031305.2000.10474560)."""
    from statsmodels.stats.proportion import (
        confint_proportions_2indep,
        test_proportions_2indep,
    )

    counts = (correct, rows, base_correct, base_rows)
    low, high = confint_proportions_2indep(*counts, method="agresti-caffo", alpha=_ALPHA)
    tested = test_proportions_2indep(*counts, method="agresti-caffo", return_results=True)
    # Its own standard error: one more success and failure on each side keeps it from being 0.
    p, q = (correct + 1) / (rows + 2), (base_correct + 1) / (base_rows + 2)
    error = math.sqrt(p * (1 - p) / (rows + 2) + q * (1 - q) / (base_rows + 2))
    seen = stats.norm.ppf((1 + CONFIDENCE) / 2) + stats.norm.ppf(POWER)
    value = correct / rows - base_correct / base_rows
    return Inference(value, float(low), float(high), float(tested.pvalue), float(seen * error))
