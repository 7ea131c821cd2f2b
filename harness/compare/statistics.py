"""Paired resampling through sufficient statistics, and intervals over seeds.

Examples are one level (whole clusters are drawn), training seeds another. With one seed a claim is
about a checkpoint: a percentile bootstrap over clusters (Efron & Tibshirani, 1993, ch. 13). With
several it is about a method: the variance of the mean over seeds is the items' variance of that
mean plus the variance between seeds over their number, with Satterthwaite's degrees of freedom
(Satterthwaite, 1946; Brennan, 2001, Generalizability Theory, ch. 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.aggregate import AGGREGATES

RESAMPLES = 2000
CONFIDENCE = 0.95
POWER = 0.8
_CHUNK = 64_000_000
"""Weights held at once; more examples are resampled in several goes."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Per-example statistics of one metric for one checkpoint, shape (n,) each."""

    aggregate: str
    columns: Mapping[str, Array]

    def point(self) -> float:
        """The metric over all examples."""
        sums = {name: np.asarray(column.sum()) for name, column in self.columns.items()}
        return self._compute({**sums, "n": np.asarray(float(self.n))})

    def resampled(self, weights: Resampler) -> Array:
        """The metric on each resample, shape (RESAMPLES,)."""
        names = list(self.columns)
        stacked = np.column_stack([*(self.columns[n] for n in names), np.ones(self.n)])
        sums = weights.sums(stacked)
        named = {name: sums[:, i] for i, name in enumerate(names)}
        return np.asarray(AGGREGATES[self.aggregate].compute({**named, "n": sums[:, -1]}))

    @property
    def n(self) -> int:
        """Examples."""
        return len(next(iter(self.columns.values())))

    def _compute(self, sums: Mapping[str, Array]) -> float:
        return float(AGGREGATES[self.aggregate].compute(sums))


class Resampler:
    """Bootstrap weights over clusters, drawn once and shared by every variant: that is the pairing.

    Args:
        clusters: the cluster of each example, in the examples' order.
    """

    def __init__(self, clusters: Sequence[str], seed: int = 0) -> None:
        _, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
        self.index, self.clusters, self.seed = index, int(index.max()) + 1, seed
        self._kept: Array | None = None
        if RESAMPLES * self.clusters <= _CHUNK:
            self._kept = self._draw(np.random.default_rng(seed), RESAMPLES)

    def sums(self, columns: Array) -> Array:
        """Weighted column sums on each resample: (n, k) -> (RESAMPLES, k)."""
        by_cluster = np.zeros((self.clusters, columns.shape[1]))
        np.add.at(by_cluster, self.index, columns)
        if self._kept is not None:
            return np.asarray(self._kept @ by_cluster)
        rng, parts, size = np.random.default_rng(self.seed), [], max(1, _CHUNK // self.clusters)
        for start in range(0, RESAMPLES, size):
            parts.append(self._draw(rng, min(size, RESAMPLES - start)) @ by_cluster)
        return np.concatenate(parts)

    def _draw(self, rng: np.random.Generator, count: int) -> Array:
        shares = np.full(self.clusters, 1 / self.clusters)
        return rng.multinomial(self.clusters, shares, size=count).astype(np.float64)


@dataclass(frozen=True)
class Inference:
    """A mean with its doubt: 95% interval, two-sided p of zero, and what could have been seen."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    detectable: float | None


def infer(
    points: Sequence[float],
    resampled: Sequence[Array],
    clusters: int,
    unpaired: Sequence[float] = (),
) -> Inference:
    """From one value a seed (a metric or a difference) and its resamples to an interval.

    Args:
        points: the value of each seed. resampled: its bootstrap values, the same weights for all.
        clusters: independent examples.
        unpaired: the baseline's value of each of its seeds, where these are not the same seeds;
            their spread then counts too (Welch, 1947).
    """
    value = float(np.mean(points))
    draws = np.mean(np.stack(resampled), axis=0)
    items = float(np.var(draws, ddof=1))
    seeds = len(points)
    if clusters < 2 or not np.isfinite(items):
        return Inference(value, None, None, None, None)
    if seeds == 1 and len(unpaired) < 2:
        error, freedom = np.sqrt(items), float(clusters - 1)
        tail = (1 - CONFIDENCE) / 2
        low, high = (float(q) for q in np.quantile(draws, [tail, 1 - tail]))
    else:
        parts = [(items, clusters - 1)]
        parts += [
            (float(np.var(v, ddof=1)) / len(v), len(v) - 1)
            for v in (points, unpaired)
            if len(v) > 1
        ]
        error = np.sqrt(sum(variance for variance, _ in parts))
        freedom = _satterthwaite(parts)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error)
        low, high = value - half, value + half
    if error == 0:
        # Every cluster moved alike: the sign test's p is exact, and no spread tells a power.
        alike = 1.0 if value == 0 else min(1.0, 2 * 0.5**clusters)
        return Inference(value, low, high, alike, None)
    p = float(2 * stats.t.sf(abs(value) / error, freedom))
    quantiles = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) + stats.t.ppf(POWER, freedom)
    return Inference(value, low, high, p, float(quantiles * error))


def _satterthwaite(parts: Sequence[tuple[float, int]]) -> float:
    """Effective degrees of freedom of a sum of variances, each given with its own."""
    total = sum(variance for variance, _ in parts)
    denominator = sum(variance**2 / freedom for variance, freedom in parts)
    return total**2 / denominator if denominator > 0 else float(min(f for _, f in parts))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Holm, 1979), by statsmodels."""
    from statsmodels.stats.multitest import multipletests

    if not values:
        return []
    return [float(p) for p in multipletests(values, method="holm")[1]]
