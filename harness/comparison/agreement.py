"""How far labels agree: plain agreement, Cohen's kappa and Krippendorff's alpha, with intervals.

Plain agreement counts what guessing reaches too: two labellers who call half of all pairs a win by
a throw of a coin agree on half of them. Kappa and alpha are 0 for that, and 1 for full agreement.
So agreement is shown beside kappa, never alone.

Kappa and alpha are computed from sums over examples, so that their intervals are those of the
jackknife over clusters, like the intervals of every other metric here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal, TypeVar

import numpy as np

from harness.comparison import binomial
from harness.comparison.intervals import Inference, Runs, infer
from harness.comparison.result import Estimate
from harness.comparison.statistics import Array, Clusters

Category = TypeVar("Category", bound=Hashable)
Distance = Literal["nominal", "interval"]


def mean(values: Array, clusters: Clusters) -> Inference:
    """The mean over examples with its interval over clusters.

    Args:
        values: shape (n,).
    """
    columns = np.column_stack([values, np.ones(len(values))])
    return from_sums(columns, lambda sums: sums[..., 0] / sums[..., 1], clusters)


def proportion(hits: Array, clusters: Clusters) -> Estimate:
    """The share of ones with an interval that stays valid for few examples and near 0 and 1.

    Examples of one cluster count as fewer independent ones (see `binomial.effective_rows`).

    Args:
        hits: 0, 1, or between them for half a hit, shape (n,).
    """
    rows = float(len(hits))
    if not clusters.single:
        inference = mean(hits, clusters)
        rows = float(clusters.count)
        if inference.low is not None and inference.high is not None:
            half = (inference.high - inference.low) / 2
            rows = binomial.effective_rows(inference.value, half, len(hits) - 1, len(hits))
    return binomial.share(float(hits.mean()) * rows, rows)


def kappa(
    one: Sequence[Category], other: Sequence[Category], clusters: Clusters
) -> Estimate | None:
    """Cohen's kappa of two labellers (Cohen, 1960, doi:10.1177/001316446002000104).

    kappa = (p_o - p_e) / (1 - p_e), with p_o the share of examples with equal labels, and p_e what
    it would be if both labelled independently, each as often as it does.

    Args:
        one, other: the labels of each, in the order of the examples.

    Returns:
        None if both gave one and the same label to every example, which leaves nothing to agree on.
    """
    names = list(dict.fromkeys([*one, *other]))
    places = {name: place for place, name in enumerate(names)}
    cells = np.zeros((len(one), len(names) ** 2))
    for example, (first, second) in enumerate(zip(one, other, strict=True)):
        cells[example, places[first] * len(names) + places[second]] = 1.0
    if len(names) < 2:
        return None
    return _estimate(cells, lambda sums: _kappa(sums, len(names)), clusters)


def _kappa(sums: Array, categories: int) -> Array:
    """Kappa of summed cells: (..., categories²) -> (...)."""
    table = sums.reshape(*sums.shape[:-1], categories, categories)
    total = table.sum(axis=(-2, -1))
    observed = np.trace(table, axis1=-2, axis2=-1) / total
    expected = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1) / total**2
    return np.asarray((observed - expected) / (1 - expected))


def alpha(
    ratings: Sequence[Sequence[float | None]], clusters: Clusters, distance: Distance = "nominal"
) -> Estimate | None:
    """Krippendorff's alpha of any number of raters (Krippendorff, 2011, Computing Krippendorff's
    Alpha-Reliability, repository.upenn.edu/asc_papers/43).

    alpha = 1 - D_o / D_e: the mean disagreement of two ratings of one example, over that of two
    ratings of any examples. Examples with fewer than two ratings say nothing and count nowhere.

    Args:
        ratings: for each example the ratings that it got, None where a rater gave none.
        distance: `nominal` counts two different ratings as 1; `interval` as their difference
            squared.

    Returns:
        None if no example has two ratings, or if all ratings are alike.
    """
    kept = [[float(value) for value in unit if value is not None] for unit in ratings]
    kept = [unit if len(unit) > 1 else [] for unit in kept]
    values = sorted({value for unit in kept for value in unit})
    if len(values) < 2:
        return None
    rows = [_unit(unit, values, distance) for unit in kept]
    columns = np.asarray(rows, dtype=np.float64)
    return _estimate(columns, lambda sums: _alpha(sums, distance), clusters)


def _unit(unit: Sequence[float], values: Sequence[float], distance: Distance) -> list[float]:
    """The summands of one example: how many ratings, their disagreement, and what the expected
    disagreement is computed from: the number of each value, or the sum and the sum of squares."""
    many = len(unit)
    squares = sum(value**2 for value in unit)
    counts = [float(unit.count(value)) for value in values]
    rest = counts if distance == "nominal" else [sum(unit), squares]
    if many == 0:
        return [0.0, 0.0, *(0.0 for _ in rest)]
    if distance == "nominal":
        differing = many**2 - sum(count**2 for count in counts)
    else:
        differing = 2 * (many * squares - sum(unit) ** 2)
    return [float(many), differing / (many - 1), *rest]


def _alpha(sums: Array, distance: Distance) -> Array:
    """Alpha of summed examples, as `_unit` gives them: (..., k) -> (...)."""
    many, observed, rest = sums[..., 0], sums[..., 1], sums[..., 2:]
    if distance == "nominal":
        differing = many**2 - (rest**2).sum(axis=-1)
    else:
        differing = 2 * (many * rest[..., 1] - rest[..., 0] ** 2)
    return np.asarray(1 - (observed / many) / (differing / (many * (many - 1))))


def from_sums(columns: Array, compute: Callable[[Array], Array], clusters: Clusters) -> Inference:
    """A statistic of column sums with the jackknife's interval over clusters (Efron & Tibshirani,
    1993, ch. 11).

    Args:
        columns: what each example adds, shape (n, k).
        compute: from sums, shape (..., k), to the statistic, shape (...).
    """
    sums = clusters.sums(columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        point = compute(sums.sum(axis=0))
        without = compute(sums.sum(axis=0) - sums)
        moves = (clusters.count - 1) * (without.mean() - without)
    return infer(Runs(np.asarray([point]), np.asarray([moves])), clusters.count)


def _estimate(
    columns: Array, compute: Callable[[Array], Array], clusters: Clusters
) -> Estimate | None:
    inference = from_sums(columns, compute, clusters)
    if not np.isfinite(inference.value):
        return None
    inference = inference.within(-1.0, 1.0)
    return Estimate(inference.value, inference.low, inference.high)
