"""The metrics that a suite will measure of each variant, as far as its scorers tell."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from harness.core.errors import SuiteError
from harness.planning.claims import Column
from harness.planning.graph import VariantPath
from harness.scorers.base import Metric, Scorer
from harness.store.stage import Record, Stage
from harness.variants.variant import Variant


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
    reported: Callable[[Scorer, str], Sequence[str]],
) -> Mapping[str, list[Column]]:
    """Variant -> the metrics that are measured of it.

    Args:
        record: a stage's record, where it has ended.
        reported: the metrics that a benchmark will have, as far as its files tell.
    """
    by_name = {(s.name, s.label): (s, bool(s.sets())) for s in scorers}
    columns: dict[str, list[Column]] = {}
    for path in paths:
        known = columns.setdefault(path.variant.group, [])
        for scored in (path.draft or path).scores:
            scorer, brings = by_name[scored.scorer, scored.label]
            ended = record(scored.stage)
            measured = _columns(scorer, scored.evaluation, ended, reported, guessed=brings)
            known += [column for column in measured if column not in known]
    return columns


def _columns(
    scorer: Scorer,
    evaluation: str,
    record: Record | None,
    reported: Callable[[Scorer, str], Sequence[str]],
    *,
    guessed: bool,
) -> Iterator[Column]:
    if not scorer.declared():
        yield from _of_benchmark(scorer, evaluation, record, reported, guessed=guessed)
        return
    for name, metric in zip(titles(scorer), scorer.declared().values(), strict=True):
        yield Column(
            scorer.name, name, evaluation, metric.even, _bounds(metric), guessed,
            metric.higher_is_better, None, scorer.label or "",
        )  # fmt: skip


def _of_benchmark(
    scorer: Scorer,
    evaluation: str,
    record: Record | None,
    reported: Callable[[Scorer, str], Sequence[str]],
    *,
    guessed: bool,
) -> Iterator[Column]:
    """The metrics of a benchmark as its record tells them; before it has run, those that its files
    name, and a column without a name for the first of them, which the record will tell."""
    label = scorer.label or ""
    ran = record is not None and record.ok
    names = (
        list(record.metrics["metrics"]) if ran and record else list(reported(scorer, evaluation))
    )
    if not ran:
        yield Column(
            scorer.name, "", evaluation, guessed=guessed, label=label, told=bool(names)
        )  # fmt: skip
    prefix = f"{label} " if label and len(names) > 1 else ""
    for place, name in enumerate(names):
        title = label if label and len(names) == 1 else f"{prefix}{name}"
        yield Column(
            scorer.name, title, evaluation, guessed=guessed, first=ran and place == 0, label=label
        )  # fmt: skip


def _bounds(metric: Metric) -> tuple[float, float] | None:
    """The least and the greatest value of an example, if the metric is a mean of them."""
    return metric.bounds if metric.aggregate == "mean" else None


def require_distinct(scorers: Sequence[Scorer], variants: Sequence[Variant]) -> None:
    """Raise SuiteError if two scorers would write into the same column of a table."""
    evaluations = list(dict.fromkeys(e for v in variants for e in v.evaluations))
    seen: dict[tuple[str, str], int] = {}
    for index, scorer in enumerate(scorers):
        entries = evaluations if scorer.data is None else [scorer.data]
        for title, entry in itertools.product(titles(scorer), entries):
            other = seen.setdefault((title, entry), index)
            if other != index:
                raise SuiteError(
                    f"'{title}' is a metric of scorers[{other}] too, on '{entry}'",
                    where=f"scorers[{index}].{scorer.name}",
                    fix="give one of them a `label:`",
                )
    brought: dict[tuple[str | None, str], int] = {}
    for index, scorer in enumerate(scorers):
        for entry in scorer.sets():
            other = brought.setdefault((scorer.label, entry), index)
            if other != index:
                raise SuiteError(
                    f"scorers[{other}] scores '{entry}' too, into the same columns",
                    where=f"scorers[{index}].{scorer.name}",
                    fix="give one of them a `label:`",
                )
