"""Per-example statistics of a metric, and what each cluster of examples does to it.

Whole clusters (a conversation, a document; else every example is its own) are left out one at a
time through the sums that the metric is made from: the jackknife (Efron & Tibshirani, 1993, ch. 11;
for clusters MacKinnon, Nielsen & Webb, 2023, doi:10.1002/jae.2969). So a corpus metric
such as BLEU or perplexity has its doubt from the same code as a mean, for which a cluster's part is
just its distance from the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.core.aggregate import AGGREGATES

Array = NDArray[np.float64]


class Clusters:
    """Which examples belong together, in the examples' order."""

    def __init__(self, names: Sequence[str]) -> None:
        _, index = np.unique(np.asarray(names, dtype=str), return_inverse=True)
        self.index, self.count = index, int(index.max()) + 1
        self._order = np.argsort(index, kind="stable")
        self._starts = np.searchsorted(index[self._order], np.arange(self.count))

    @property
    def single(self) -> bool:
        """Every example is its own cluster."""
        return self.count == len(self.index)

    def sums(self, columns: Array) -> Array:
        """Column sums of each cluster: (n, k) -> (count, k)."""
        return np.asarray(np.add.reduceat(columns[self._order], self._starts, axis=0))


@dataclass(frozen=True)
class Sample:
    """Per-example statistics of one metric for one checkpoint, shape (n,) each."""

    aggregate: str
    columns: Mapping[str, Array]

    def point(self) -> float:
        """The metric over all examples."""
        sums = {name: np.asarray(column.sum()) for name, column in self.columns.items()}
        return float(self._compute({**sums, "n": np.asarray(float(self.n))}))

    def moves(self, clusters: Clusters) -> Array:
        """How far each cluster moves the metric, shape (count,), with mean 0; for a mean over
        single examples, each one's distance from it. NaN where without some cluster there is no
        such metric.
        """
        stacked = np.column_stack([*self.columns.values(), np.ones(self.n)])
        own = clusters.sums(stacked)
        rest = own.sum(axis=0) - own
        named = {name: rest[:, i] for i, name in enumerate(self.columns)}
        with np.errstate(divide="ignore", invalid="ignore"):
            without = self._compute({**named, "n": rest[:, -1]})
            return np.asarray((clusters.count - 1) * (without.mean() - without))

    @cached_property
    def binary(self) -> Array | None:
        """Each example's 0 or 1, shape (n,), where the metric is their share; else None."""
        name = {"mean": "value", "share": "hits"}.get(self.aggregate)
        if name is None or ("of" in self.columns and (self.columns["of"] != 1).any()):
            return None
        values = self.columns[name]
        return values if ((values == 0) | (values == 1)).all() else None

    def about(self, index: NDArray[np.intp]) -> NDArray[np.intp]:
        """Those of these examples that the metric is about."""
        if not AGGREGATES[self.aggregate].of:
            return index
        found = [self.columns[name][index] != 0 for name in self._classes()]
        return index[np.any(found, axis=0)] if found else index[:0]

    def at(self, index: NDArray[np.intp]) -> Sample:
        """The sample of some examples."""
        return Sample(self.aggregate, {name: own[index] for name, own in self.columns.items()})

    def independent(self, clusters: Clusters) -> int:
        """Clusters that the metric's doubt rests on: those of its smallest class, all without."""
        counted = (clusters.index[self.columns[name] != 0] for name in self._classes())
        return min((len(np.unique(own)) for own in counted), default=clusters.count)

    def _classes(self) -> list[str]:
        """Statistics that tell which examples the metric is about, of classes that occur."""
        counts = AGGREGATES[self.aggregate].counts
        return [name for name, column in self.columns.items() if counts(name) and column.any()]

    @property
    def n(self) -> int:
        """Examples."""
        return len(next(iter(self.columns.values())))

    def _compute(self, sums: Mapping[str, Array]) -> Array:
        return np.asarray(AGGREGATES[self.aggregate].compute(sums))
