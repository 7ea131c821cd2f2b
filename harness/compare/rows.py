"""Rows of a comparison: each variant's metric with its interval, and its difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from harness.compare.result import ALL, Estimate, Row
from harness.compare.scores import Column, Keys, Scores
from harness.compare.statistics import Array, Sample, infer

Found = Mapping[str, Mapping[int, Mapping[Column, Scores]]]
"""Variant -> seed -> metric and evaluation."""


@dataclass(frozen=True)
class Drawn:
    """Scores of one training run, of the examples that the metric is about, with the metric itself
    and on every resample."""

    scores: Scores
    point: float
    draws: Array

    @property
    def independent(self) -> int:
        """Clusters that the metric's doubt rests on."""
        return self.scores.sample.independent(self.scores.keys.resampler)


def rows_of(scores: Found, baseline: str) -> list[Row]:
    """A row for every variant, metric, evaluation and slice, before Holm and the verdicts."""
    columns: dict[Column, None] = {}
    for seeds in scores.values():
        for found in seeds.values():
            columns.update(dict.fromkeys(found))
    return [
        row
        for column in columns
        for part in _slices(scores, column)
        for row in _cell_rows(scores, column, part, baseline)
    ]


def _slices(scores: Found, column: Column) -> list[str]:
    """The whole, then each group of rows where there is more than one."""
    found = {
        name
        for seeds in scores.values()
        for scored in seeds.values()
        if column in scored
        for name in scored[column].keys.names
    }
    named = sorted(part for part in found if part)
    return [ALL, *named] if len(named) > 1 else [ALL]


def _cell_rows(scores: Found, column: Column, part: str, baseline: str) -> Iterator[Row]:
    cut = {
        group: {
            seed: found[column].slice(part)
            for seed, found in seeds.items()
            if column in found and _has(found[column], part)
        }
        for group, seeds in scores.items()
    }
    drawn = _draw({group: seeds for group, seeds in cut.items() if seeds})
    for group, own in drawn.items():
        row = _alone(group, column, part, own)
        if lost := len(scores[group]) - len(own):
            row = replace(row, note=f"{lost} of {len(scores[group])} seeds have no result here")
        if group == baseline:
            yield row
        elif baseline not in drawn:
            yield replace(row, verdict="incomparable", note="the baseline has no result here")
        else:
            yield _against(row, own, drawn[baseline])


def _has(scores: Scores, part: str) -> bool:
    """Whether the metric is about some of the part's examples; the whole always has a figure."""
    if part == ALL:
        return True
    return part in scores.keys.names and scores.sample.about(scores.keys.of(part)).size > 0


def _draw(cut: Mapping[str, Mapping[int, Scores]]) -> dict[str, dict[int, Drawn]]:
    """Every run's resamples, those on the same examples by one product of matrices."""
    cut = {group: {s: own.counted() for s, own in seeds.items()} for group, seeds in cut.items()}
    together: dict[Keys, list[Sample]] = {}
    for seeds in cut.values():
        for found in seeds.values():
            together.setdefault(found.keys, []).append(found.sample)
    draws = {keys: iter(keys.resampler.resampled(own)) for keys, own in together.items()}
    return {
        group: {
            seed: Drawn(found, found.sample.point(), next(draws[found.keys]))
            for seed, found in seeds.items()
        }
        for group, seeds in cut.items()
    }


def _alone(group: str, column: Column, part: str, own: Mapping[int, Drawn]) -> Row:
    drawn = next(iter(own.values()))
    first, points = drawn.scores, [run.point for run in own.values()]
    found = infer(points, [run.draws for run in own.values()], drawn.independent)
    return Row(
        group=group,
        metric=column[0],
        evaluation=column[1],
        slice=part,
        higher_is_better=first.higher_is_better,
        unit=first.unit,
        n=len(first.keys.ids),
        clusters=first.keys.resampler.clusters,
        seeds=len(own),
        estimate=Estimate(found.value, found.low, found.high),
        difference=None,
        p=None,
        p_holm=None,
        detectable=None,
        level="checkpoint" if len(own) == 1 else "method",
        verdict="baseline",
        by_seed=tuple(zip(own, points, strict=True)),
        forgetting=first.forgetting,
    )


def _against(row: Row, own: Mapping[int, Drawn], base: Mapping[int, Drawn]) -> Row:
    """The row with its difference: seed k against the baseline's seed k, or its mean."""
    drawn, other = next(iter(own.values())), next(iter(base.values())).scores
    first = drawn.scores
    if first.version != other.version:
        return replace(row, verdict="incomparable", note="not the same scorer, or its version")
    if first.keys.ids != other.keys.ids or first.rows != other.rows:
        return replace(row, verdict="incomparable", note="not the same examples")
    if first.judge != other.judge:
        return replace(row, verdict="incomparable", note="not by the same reward model")
    if not _same_tokens(first, other):
        return replace(
            row, verdict="incomparable",
            note="not the same tokens: another tokenizer (bits_per_byte compares these)",
        )  # fmt: skip
    paired = len(base) > 1 and own.keys() <= base.keys()
    base_point = sum(run.point for run in base.values()) / len(base)
    base_draws = sum(run.draws for run in base.values()) / len(base)
    points, draws = [], []
    for seed, run in own.items():
        points.append(run.point - (base[seed].point if paired else base_point))
        draws.append(run.draws - (base[seed].draws if paired else base_draws))
    apart = () if paired else tuple(run.point for run in base.values())
    found = infer(points, draws, drawn.independent, apart)
    return replace(
        row,
        difference=Estimate(found.value, found.low, found.high),
        p=found.p,
        detectable=found.detectable,
    )


def against_constant(group: str, column: Column, own: Mapping[int, Scores], constant: float) -> Row:
    """A variant's row on all examples, its difference from a number that is known.

    Args:
        own: seed -> scores.
    """
    runs = _draw({group: own})[group]
    row = _alone(group, column, ALL, runs)
    points = [run.point - constant for run in runs.values()]
    independent = next(iter(runs.values())).independent
    found = infer(points, [run.draws - constant for run in runs.values()], independent)
    return replace(
        row,
        difference=Estimate(found.value, found.low, found.high),
        p=found.p,
        detectable=found.detectable,
    )


def _same_tokens(first: Scores, other: Scores) -> bool:
    """Whether two figures a token are about the same tokens; true where tokens do not matter."""
    own, base = (s.sample.columns.get("tokens") for s in (first, other))
    return own is None or base is None or np.array_equal(own, base)
