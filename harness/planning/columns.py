"""The metrics that a suite will measure of each variant, as far as its scorers tell."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from harness.planning.claims import Column
from harness.planning.graph import VariantPath
from harness.scorers.base import Metric, Scorer
from harness.store.stage import Record, Stage


def titles(scorer: Scorer) -> list[str]:
    """The names of a scorer's metrics in tables, as the comparison gives them."""
    metrics, label = list(scorer.declared()), scorer.label
    if label is None:
        return metrics
    return [label] if len(metrics) == 1 else [f"{label} {metric}" for metric in metrics]


def columns_of(
    paths: Sequence[VariantPath],
    scorers: Sequence[Scorer],
    record: Callable[[Stage], Record | None],
) -> Mapping[str, list[Column]]:
    """Variant -> the metrics that are measured of it.

    Args:
        record: a stage's record, where it has ended.
    """
    by_name = {(scorer.name, scorer.label): scorer for scorer in scorers}
    columns: dict[str, list[Column]] = {}
    for path in paths:
        known = columns.setdefault(path.variant.group, [])
        for scored in (path.draft or path).scores:
            scorer = by_name[scored.scorer, scored.label]
            measured = _columns(scorer, scored.evaluation, record(scored.stage))
            known += [column for column in measured if column not in known]
    return columns


def _columns(scorer: Scorer, evaluation: str, record: Record | None) -> Iterator[Column]:
    names, metrics = titles(scorer), list(scorer.declared().values())
    if not metrics:  # a benchmark, whose metrics only its record tells
        told = list(record.metrics["metrics"]) if record is not None and record.ok else [""]
        prefix = f"{scorer.label} " if scorer.label and len(told) > 1 else ""
        names = [scorer.label or told[0]] if len(told) == 1 else [f"{prefix}{n}" for n in told]
    for place, (name, metric) in enumerate(itertools.zip_longest(names, metrics)):
        even = None if metric is None else metric.even
        bounds = None if metric is None else _bounds(metric)
        up = metric is None or metric.higher_is_better
        first = place == 0 if metric is None and name else None
        yield Column(
            scorer.name, name, evaluation, even, bounds, bool(scorer.sets()), up, first,
            scorer.label or "",
        )  # fmt: skip


def _bounds(metric: Metric) -> tuple[float, float] | None:
    """The least and the greatest value of an example, if the metric is a mean of them."""
    return metric.bounds if metric.aggregate == "mean" else None
