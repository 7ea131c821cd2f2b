"""Differences of two metrics of which only values and standard errors are known."""

from __future__ import annotations

import math
from dataclasses import replace

from scipy import special

from harness.comparison import binomial
from harness.comparison.groups import Group
from harness.comparison.intervals import CONFIDENCE, POWER, Inference
from harness.comparison.measured import Measured

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
