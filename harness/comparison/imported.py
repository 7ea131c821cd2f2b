"""A comparison of runs that were read from files, with the statistics of our own reports."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.comparison import constant, unpaired
from harness.comparison.binomial import share
from harness.comparison.intervals import CONFIDENCE, cut, student
from harness.comparison.measured import Measured, Run
from harness.comparison.result import ALL, Comparison, Estimate, Row, VariantResult
from harness.comparison.rows import AllScores, rows_of, with_difference
from harness.comparison.verdicts import adjusted
from harness.core.errors import DataError, unknown
from harness.core.text import number_of

Runs = Mapping[str, Mapping[int, Run]]
"""Variant -> seed -> run."""
Column = tuple[str, str]


def by_variant(runs: Sequence[Run]) -> dict[str, dict[int, Run]]:
    """The runs by variant and seed.

    Raises:
        DataError: a variant has two runs of one seed.
    """
    found: dict[str, dict[int, Run]] = {}
    for run in runs:
        seeds = found.setdefault(run.variant, {})
        if run.seed in seeds:
            raise DataError(
                f"there are two runs of '{run.variant}' with seed {run.seed}",
                fix="compare two of them at a time: `harness compare A B`",
            )
        seeds[run.seed] = run
    return found


def compare_runs(
    runs: Runs, baseline: str, *, suite: str, command: str, prompts: bool = False
) -> Comparison:
    """Compare every variant with the baseline, on the same examples where their scores are known.

    Args:
        suite: what the report calls itself.
        prompts: other prompts are allowed.

    Raises:
        DataError: there is no such variant.
    """
    if baseline not in runs:
        raise DataError(unknown("run", baseline, runs, where="--baseline"))
    tools = sorted(
        {str(run.source.get("tool")) for seeds in runs.values() for run in seeds.values()}
    )
    rows = tuple(adjusted(list(_rows(runs, baseline, prompts=prompts))))
    return Comparison(
        suite=suite,
        description=f"Results of {' and '.join(tools)}. Imported, not run again.",
        command=command,
        baseline=baseline,
        variants=tuple(_variant(name, seeds) for name, seeds in runs.items()),
        rows=rows,
        examples=(),
        contamination=(),
        provenance=_provenance(runs),
        data=(),
        ledger={},
        notes=(*constant.notes(rows), *_notes(runs)),
        tests=_tests(rows),
    )


_UNPAIRED = (
    "Unpaired where a side has no scores of examples, as if the two had answered other questions,"
    " which shows less: two shares by Agresti & Caffo (2000), else Student's t."
)


def _tests(rows: Sequence[Row]) -> str:
    """How the differences were tested."""
    tested = [unpaired.NOTE in row.note for row in rows if row.p is not None]
    parts = [Comparison.tests] if not all(tested) or not tested else []
    return " ".join([*parts, *([_UNPAIRED] if any(tested) else [])])


def _variant(name: str, seeds: Mapping[int, Run]) -> VariantResult:
    errors = tuple(run.error for run in seeds.values() if run.error)
    measured = any(run.metrics for run in seeds.values())
    return VariantResult(
        group=name, ids=(name,), labels={"model": name}, trained=False, seeds=tuple(seeds),
        status="ok" if not errors else "partial" if measured else "failed", reasons=errors,
        cost={}, predicted={}, generation={}, audit=(), imported=True,
    )  # fmt: skip


def _rows(runs: Runs, baseline: str, *, prompts: bool) -> Iterator[Row]:
    columns: dict[Column, None] = {}
    for seeds in runs.values():
        for run in seeds.values():
            columns.update(dict.fromkeys((m.metric, m.evaluation) for m in run.metrics))
    metrics = {
        (name, seed): {(m.metric, m.evaluation): m for m in run.metrics}
        for name, seeds in runs.items()
        for seed, run in seeds.items()
    }
    for column in columns:
        cell = {key: found[column] for key, found in metrics.items() if column in found}
        yield from _cell(cell, column, baseline, prompts=prompts)


def _cell(
    cell: Mapping[tuple[str, int], Measured], column: Column, baseline: str, *, prompts: bool
) -> Iterator[Row]:
    """The rows of one metric on one evaluation."""
    tables: dict[str, dict[int, Any]] = {}
    plain: dict[str, Measured] = {}
    for (name, seed), metric in cell.items():
        if metric.examples is not None:
            tables.setdefault(name, {})[seed] = {column: metric.scores()}
        elif name not in plain:
            plain[name] = metric
    base = next((m for (name, _), m in cell.items() if name == baseline), None)
    scores: AllScores = tables
    rows = {row.group: row for row in rows_of(scores, baseline) if row.slice == ALL}
    for name, metric in plain.items():
        if name not in rows:
            rows[name] = _published(name, metric, base, baseline)
    for name, row in rows.items():
        metric = next(m for (variant, _), m in cell.items() if variant == name)
        reason = metric.why_not(base, prompts=prompts) if base is not None else ""
        if (
            base is not None
            and name != baseline
            and (base.examples is None) != (metric.examples is None)
        ):
            row = _published(name, metric, base, baseline)
        if reason:
            row = replace(row, verdict="incomparable", note=reason, difference=None, p=None,
                          detectable=None)  # fmt: skip
        yield row.noted(_limits(metric))


def _limits(metric: Measured) -> str:
    lost = f"{number_of(metric.unscored, 'example')} without a score" if metric.unscored else ""
    return "; ".join(part for part in (metric.note, lost) if part)


def _published(name: str, metric: Measured, base: Measured | None, baseline: str) -> Row:
    """The row of a metric without scores of examples, on this side or on the other."""
    row = Row(
        group=name, metric=metric.metric, evaluation=metric.evaluation, slice=ALL,
        higher_is_better=metric.higher_is_better, unit=metric.unit, n=metric.n or 0,
        clusters=metric.n or 0, seeds=1, estimate=_estimate(metric), difference=None, p=None,
        p_holm=None, detectable=None, level="checkpoint", verdict="baseline",
    )  # fmt: skip
    if name == baseline:
        return row
    if base is None:
        return replace(row, verdict="incomparable", note="the baseline has no result here")
    apart = unpaired.contrast_of(unpaired.Figure.of([metric]), unpaired.Figure.of([base]))
    if apart.p(0.0) is None:
        return replace(row, verdict="incomparable", note=apart.reason)
    return with_difference(replace(row, verdict=""), apart)


def _estimate(metric: Measured) -> Estimate:
    figure = unpaired.Figure.of([metric])
    if figure.right is not None and figure.n is not None:
        return share(figure.right, figure.n)
    if not figure.parts:
        return Estimate(figure.value)
    ((variance, freedom),) = figure.parts
    reach = student((1 - CONFIDENCE) / 2, freedom) * math.sqrt(variance)
    ends = figure.value - reach, figure.value + reach
    return Estimate(figure.value, *cut(ends, figure.value, figure.bounds))


def _provenance(runs: Runs) -> dict[str, Any]:
    sources = {name: next(iter(seeds.values())).source for name, seeds in runs.items()}
    return {
        "machine": {},
        "versions": {
            str(s.get("tool")): str(s["version"]) for s in sources.values() if s.get("version")
        },
        "models": {},
        "stages": {
            name: _digests(source.get("file"), source.get("sha256"))
            for name, source in sources.items()
        },
    }


def _digests(file: Any, digest: Any) -> dict[str, str]:
    return dict(digest) if isinstance(digest, Mapping) else {str(file): str(digest)}


def _notes(runs: Runs) -> Iterator[str]:
    told = [n for seeds in runs.values() for run in seeds.values() for n in run.notes]
    yield from dict.fromkeys(told)
    if all(len(seeds) == 1 for seeds in runs.values()):
        yield "One run of each: differences are about these checkpoints, not about methods."
