"""Collects scores row by row, and makes metrics of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from harness.comparison.measured import Examples, Measured, Prints
from harness.comparison.statistics import Sample
from harness.core.aggregate import AGGREGATES
from harness.core.errors import shortened
from harness.importers.base import a_name, a_number, lower_is_better
from harness.importers.files import Unreadable

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 5_000_000
"""The most rows of one evaluation."""
_LARGEST = 1e100
"""The largest score. The square of a far larger one is no finite number."""
_MOST_EXAMPLES = 10**12
"""A larger number of examples, which no test can be made with, is as good as none."""


@dataclass
class Collector:
    """Collects the scores of one run on one evaluation, row by row.

    Attributes:
        where: the file, for messages.
        answers: several answers to one question are the rows of one id; their mean is its score.
    """

    evaluation: str
    where: str
    answers: bool = False
    ids: list[str] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    contents: list[int] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)
    columns: dict[str, list[tuple[float, ...] | None]] = field(default_factory=dict)
    lower: dict[str, bool] = field(default_factory=dict)
    aggregates: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        identifier: object,
        scores: Mapping[str, float | tuple[float, ...] | None],
        *,
        cluster: object = None,
        content: int | None = None,
        prompt: int | None = None,
    ) -> None:
        """One row. A score of None was not given: the example is counted as unscored."""
        where = f"{self.where}: row {len(self.ids)}"
        if len(self.ids) >= MAX_ROWS:
            raise Unreadable(f"has more than {MAX_ROWS:,} rows", where=self.where)
        self.ids.append(a_name(identifier, "the id", where))
        if cluster is not None:
            self.clusters.append(a_name(cluster, "the cluster", where))
        if content is not None:
            self.contents.append(content)
        if prompt is not None:
            self.prompts.append(prompt)
        for name, value in scores.items():
            column = self.columns.setdefault(name, [])
            column.extend([None] * (len(self.ids) - 1 - len(column)))
            column.append(None if value is None else self._finite(value, name, where))

    def _finite(self, value: float | tuple[float, ...], name: str, where: str) -> tuple[float, ...]:
        values = value if isinstance(value, tuple) else (value,)
        return tuple(a_number(v, shortened(name), where) for v in values)

    def measured(
        self, conditions: Mapping[str, str] = {}, bounds: Mapping[str, tuple[float, float]] = {}
    ) -> list[Measured]:
        """The metrics, in the order in which they came.

        Raises:
            Unreadable: there are no rows, or two rows of one id.
        """
        import pyarrow as pa

        if not self.ids:
            raise Unreadable("has no rows of examples", where=self.where)
        count = len(self.ids)
        for what in ("clusters", "contents", "prompts"):
            if len(getattr(self, what)) not in (0, count):
                raise Unreadable(f"only some rows have {what}", where=self.where)
        examples = Examples(
            pa.array(self.ids, pa.string()),
            pa.array(self.clusters, pa.string()) if self.clusters else None,
            _prints(self.contents),
            _prints(self.prompts),
        )
        found = []
        for name, values in self.columns.items():
            values.extend([None] * (count - len(values)))
            metric = self._measured(name, values, examples, conditions, bounds.get(name))
            found += [] if metric is None else [metric]
        return found

    def _measured(
        self,
        name: str,
        values: list[tuple[float, ...] | None],
        examples: Examples,
        conditions: Mapping[str, str],
        bounds: tuple[float, float] | None,
    ) -> Measured | None:
        scored = np.array([v is not None for v in values], dtype=bool)
        if not scored.any():
            return None
        aggregate = self.aggregates.get(name, "mean")
        statistics = AGGREGATES[aggregate].statistics
        table = np.array([v for v in values if v is not None], dtype=np.float64)
        columns = {statistic: table[:, i] for i, statistic in enumerate(statistics)}
        kept = examples if scored.all() else examples.at(np.flatnonzero(scored))
        return table_metric(
            name, self.evaluation, kept, columns, where=self.where, aggregate=aggregate,
            lower=self.lower.get(name, lower_is_better(name)), answers=self.answers,
            unscored=int((~scored).sum()), conditions=conditions, bounds=bounds,
        )  # fmt: skip


def table_metric(
    metric: str,
    evaluation: str,
    examples: Examples,
    columns: Mapping[str, np.ndarray],
    *,
    where: str,
    lower: bool,
    aggregate: str = "mean",
    answers: bool = False,
    unscored: int = 0,
    conditions: Mapping[str, str] = {},
    bounds: tuple[float, float] | None = None,
) -> Measured:
    """A metric from columns whose rows are in any order.

    Args:
        answers: rows of one id are several answers to it, and their mean is its score.

    Raises:
        Unreadable: two rows have one id, or a score is too large for statistics.
    """
    import pyarrow.compute as pc

    largest = max((float(np.abs(column).max(initial=0)) for column in columns.values()), default=0)
    if largest > _LARGEST:
        raise Unreadable(f"a score of {metric} has the size {largest:g}", where=where)
    order = pc.sort_indices(examples.ids).to_numpy()
    examples = examples.at(order)
    columns = {name: column[order] for name, column in columns.items()}
    note = ""
    starts = _starts(examples.ids)
    if len(starts) < len(examples):
        if not answers:
            twice = examples.ids[int(np.flatnonzero(np.diff(starts, append=len(examples)) > 1)[0])]
            raise Unreadable(
                f"the id '{shortened(str(twice))}' occurs twice", where=where,
                fix="each example is one row; several answers to it need ids of their own and one"
                " cluster",
            )  # fmt: skip
        sizes = np.diff(starts, append=len(examples))
        columns = {name: np.add.reduceat(c, starts) / sizes for name, c in columns.items()}
        examples = examples.at(starts)
        note = f"mean over {sizes.min()}" + ("" if sizes.min() == sizes.max() else
                                             f" to {sizes.max()}") + " answers each"  # fmt: skip
    sample = Sample(aggregate, columns)
    return Measured(
        metric, evaluation, sample.point(), not lower, aggregate, columns, examples,
        n=len(examples), conditions=conditions, bounds=bounds or AGGREGATES[aggregate].bounds,
        unscored=unscored, note=note,
    )  # fmt: skip


def _starts(ids: pa.Array) -> np.ndarray:
    """The indexes at which another id begins, of sorted ids."""
    import pyarrow.compute as pc

    same = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False).astype(bool)
    return np.concatenate([[0], np.flatnonzero(~same) + 1])


def _prints(values: Iterable[int]) -> Prints | None:
    prints = np.array(list(values), dtype=np.uint32)
    return prints if len(prints) else None


def published(
    metric: str, evaluation: str, value: object, where: str, *, lower: bool | None = None,
    stderr: object = None, n: object = None, conditions: Mapping[str, str] = {}, note: str = "",
) -> Measured:  # fmt: skip
    """A metric of which only the value is known.

    Args:
        lower: whether lower is better; None to go by the metric's name.
        stderr: its standard error, if it is a number.
        n: its number of examples, if it is a whole number.
    """
    number = a_number(value, f"{evaluation} {metric}".strip(), where)
    spread = float(stderr) if isinstance(stderr, int | float) else math.nan
    known = isinstance(n, int) and not isinstance(n, bool) and 0 < n <= _MOST_EXAMPLES
    rows = n if known and isinstance(n, int) else None
    return Measured(
        metric, evaluation, number, not (lower_is_better(metric) if lower is None else lower),
        stderr=spread if math.isfinite(spread) and spread >= 0 else None, n=rows,
        conditions=conditions, note=note,
    )  # fmt: skip
