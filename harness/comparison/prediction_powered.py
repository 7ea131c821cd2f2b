"""A mean over many examples of which few have labels, and all a judge's verdict.

Prediction-powered inference (Angelopoulos et al., 2023, doi:10.1126/science.adi6000) takes the
judge's mean and corrects it by the judge's mean error on the labelled examples, whose uncertainty
then widens the interval. PPI++ (Angelopoulos, Duchi & Zrnic, 2023, arXiv:2311.01453) weights the
judge by a lambda that makes the interval as narrow as it can be: a useless judge gets 0, which
leaves the mean of the labels alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.comparison import binomial
from harness.comparison.intervals import CONFIDENCE, student
from harness.comparison.result import Estimate
from harness.comparison.statistics import Array, Clusters


@dataclass(frozen=True)
class Powered:
    """A mean with an interval that the judge's error is in.

    Attributes:
        weight: the lambda of PPI++, from 0 (the labels alone count) to 1.
        labels: the mean of the labelled examples alone, with its interval.
        judged: the judge's mean over all examples, whose error is not known without labels.
    """

    estimate: Estimate
    weight: float
    labels: Estimate
    judged: float


def powered_mean(
    labels: Array,
    verdicts: Array,
    others: Array,
    clusters: Clusters,
    other_clusters: Clusters,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Powered:
    """The mean of the labels that all examples would get.

    The labelled examples must be drawn at random from all of them. With n labelled and N other
    examples the estimate is mean(Y) - weight (mean(f) - mean(f')), and its variance is
    var(Y - weight f)/n + weight² var(f)/N, with var(f) over both samples. Few labels: the quantile
    is Student's t with a degree less than there are labelled clusters, where the papers have the
    normal one.

    Labels that are all alike have no spread, and still do not say that all other labels would be
    so. The share of others is then between 0 and the upper end of the exact interval of a share of
    which none was seen, and lies anywhere within the bounds.

    Args:
        labels: of the labelled examples, shape (n,), n > 1.
        verdicts: the judge's on the same examples, shape (n,), on the same scale.
        others: the judge's on the examples without a label, shape (N,); it may be empty.
        clusters, other_clusters: which labelled, and which other, examples belong together.
    """
    spread, other_spread = _centred(verdicts, clusters), _centred(others, other_clusters)
    label_spread = _centred(labels, clusters)
    pooled = _pooled(spread, other_spread)
    weight = _weight(label_spread, spread, pooled, len(other_spread))
    if _variance(label_spread - weight * spread) <= 0:
        weight = 0.0  # labels that the judge explains fully tell nothing of its other errors
    shift = weight * (float(others.mean()) - float(verdicts.mean())) if len(others) else 0.0
    value = float(labels.mean()) + shift
    variance = _variance(label_spread - weight * spread)
    variance += weight**2 * pooled / len(other_spread) if len(others) else 0.0
    judged = float(np.concatenate([verdicts, others]).mean())
    alone = _interval(float(labels.mean()), _variance(label_spread), clusters.count, bounds)
    return Powered(_interval(value, variance, clusters.count, bounds), weight, alone, judged)


def _weight(labels: Array, verdicts: Array, pooled: float, others: int) -> float:
    """The lambda with the least variance: cov(Y, f)/n over (1/n + 1/N) var(f), within 0 and 1."""
    count = len(labels)
    if not others or count < 2:  # the labels of one cluster tell no covariance
        return 0.0
    shared = float(labels @ verdicts) / (count * (count - 1))
    spread = (1 / count + 1 / others) * pooled
    return min(1.0, max(0.0, shared / spread)) if spread > 0 else 0.0


def _pooled(one: Array, other: Array) -> float:
    """The variance of a verdict over the clusters of both samples, which are of one population: a
    few examples without a label do not tell their own (one of them alone would have none)."""
    freedom = max(len(one) - 1, 0) + max(len(other) - 1, 0)
    return float(one @ one + other @ other) / freedom if freedom else 0.0


def _centred(values: Array, clusters: Clusters) -> Array:
    """How far each cluster's sum is from what its size would give, in units of the mean: for
    single examples their distance from the mean. Shape (clusters,)."""
    if not len(values):
        return values
    sums = clusters.sums(np.column_stack([values, np.ones(len(values))]))
    return np.asarray((sums[:, 0] - sums[:, 1] * values.mean()) * clusters.count / len(values))


def _variance(centred: Array) -> float:
    """The variance of a mean over clusters."""
    count = len(centred)
    return float(centred @ centred) / (count * (count - 1)) if count > 1 else 0.0


def _interval(value: float, variance: float, count: int, bounds: tuple[float, float]) -> Estimate:
    """The interval of Student's t, cut to the bounds; none for one cluster.

    Args:
        count: clusters of labelled examples.
    """
    if count < 2:
        return Estimate(value)
    if variance <= 0:
        others = binomial.share(0, count).high or 0.0
        low, high = (value + others * (bound - value) for bound in bounds)
        return Estimate(value, low, high)
    half = student((1 - CONFIDENCE) / 2, count - 1) * math.sqrt(variance)
    low, high = max(bounds[0], value - half), min(bounds[1], value + half)
    return Estimate(min(max(value, bounds[0]), bounds[1]), low, high)
