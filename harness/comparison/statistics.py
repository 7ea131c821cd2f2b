"""Per-example statistics of a metric, and how far each cluster of examples moves the metric.

A cluster is the examples that belong together (a conversation, a document); an example without such
a bond is a cluster by itself. The jackknife computes the metric again without one cluster at a time
(Efron & Tibshirani, 1993, ch. 11; for clusters MacKinnon, Nielsen & Webb, 2023,
doi:10.1002/jae.2969). It needs only the sums that the metric is computed from, so that the
uncertainty of a corpus metric such as BLEU or perplexity comes from the same code as that of a
mean.
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
    """Which examples belong together.

    Attributes:
        index: the number of each example's cluster, in the examples' order.
        count: how many clusters there are.
    """

    def __init__(self, names: Sequence[str], *, different: bool = False) -> None:
        """`different`: each name is known to occur once, so that none need be compared."""
        index = np.arange(len(names))
        if not different:
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
    """Per-example statistics of one metric for one checkpoint.

    Attributes:
        aggregate: how the metric is computed from the statistics: a name in AGGREGATES.
        columns: each statistic, shape (n,).
    """

    aggregate: str
    columns: Mapping[str, Array]

    def point(self) -> float:
        """The metric over all examples."""
        sums = {name: np.asarray(column.sum()) for name, column in self.columns.items()}
        with np.errstate(over="ignore"):  # the perplexity of a model that has diverged
            return float(self._compute({**sums, "n": np.asarray(float(self.n))}))

    def moves(self, clusters: Clusters) -> Array:
        """How far each cluster moves the metric, shape (count,), with mean 0.

        For a mean over single examples this is each example's distance from the mean. All are NaN
        if the metric cannot be computed without one of the clusters.
        """
        stacked = np.column_stack([*self.columns.values(), np.ones(self.n)])
        cluster_sums = clusters.sums(stacked)
        rest = cluster_sums.sum(axis=0) - cluster_sums
        named = {name: rest[:, i] for i, name in enumerate(self.columns)}
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            without = self._compute({**named, "n": rest[:, -1]})
            return np.asarray((clusters.count - 1) * (without.mean() - without))

    @cached_property
    def binary(self) -> Array | None:
        """Each example's 0 or 1, shape (n,), if the metric is the share of ones; else None."""
        name = {"mean": "value", "share": "hits"}.get(self.aggregate)
        if name is None or ("of" in self.columns and (self.columns["of"] != 1).any()):
            return None
        values = self.columns[name]
        return values if ((values == 0) | (values == 1)).all() else None

    def about(self, index: NDArray[np.intp]) -> NDArray[np.intp]:
        """The examples among these that the metric counts, as indexes."""
        if not AGGREGATES[self.aggregate].of:
            return index
        counted = [self.columns[name][index] != 0 for name in self._classes()]
        return index[np.any(counted, axis=0)] if counted else index[:0]

    def at(self, index: NDArray[np.intp] | slice) -> Sample:
        """The sample of the examples at these indexes."""
        return Sample(
            self.aggregate, {name: column[index] for name, column in self.columns.items()}
        )

    def independent(self, clusters: Clusters) -> int:
        """The number of clusters that the metric's uncertainty depends on.

        A metric over classes depends on the clusters of its smallest class, any other metric on all
        clusters.
        """
        counted = (clusters.index[self.columns[name] != 0] for name in self._classes())
        return min((len(np.unique(members)) for members in counted), default=clusters.count)

    def _classes(self) -> list[str]:
        """The statistics that say which examples the metric counts, for each class that occurs."""
        counts = AGGREGATES[self.aggregate].counts
        return [name for name, column in self.columns.items() if counts(name) and column.any()]

    @property
    def n(self) -> int:
        """The number of examples."""
        return len(next(iter(self.columns.values())))

    def _compute(self, sums: Mapping[str, Array]) -> Array:
        return np.asarray(AGGREGATES[self.aggregate].compute(sums))
