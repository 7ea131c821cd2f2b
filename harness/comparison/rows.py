"""Rows of a comparison: each variant's metric with its interval, and its difference."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from harness.comparison import binomial
from harness.comparison.groups import Group
from harness.comparison.intervals import Inference, Runs, infer
from harness.comparison.result import ALL, Estimate, Row
from harness.comparison.scores import Column, Scores

Found = Mapping[str, Mapping[int, Mapping[Column, Scores]]]
"""Variant -> seed -> metric and evaluation."""


def rows_of(scores: Found, baseline: str, baselines: Mapping[str, str] = {}) -> list[Row]:
    """A row for every variant, metric, evaluation and slice, before Holm and the verdicts.

    Args:
        baselines: variant -> what it is compared with, where that is not `baseline`.
    """
    against = {name: baselines.get(name, baseline) for name in scores}
    columns: dict[Column, None] = {}
    for seeds in scores.values():
        for found in seeds.values():
            columns.update(dict.fromkeys(found))
    return [
        row
        for column in columns
        for part in _slices(scores, column)
        for row in _cell_rows(scores, column, part, against)
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


def _cell_rows(
    scores: Found, column: Column, part: str, against: Mapping[str, str]
) -> Iterator[Row]:
    cut = {
        group: {
            seed: found[column].slice(part)
            for seed, found in seeds.items()
            if column in found and _has(found[column], part)
        }
        for group, seeds in scores.items()
    }
    groups = {name: Group.of(seeds) for name, seeds in cut.items() if seeds}
    for name, own in groups.items():
        row = _alone(name, column, part, own)
        if lost := len(scores[name]) - len(own.scores):
            row = row.noted(f"{lost} of {len(scores[name])} seeds have no result here")
        if name == (base := against[name]):
            yield row
        elif base not in groups:
            yield _incomparable(row, "the baseline has no result here")
        else:
            yield _against(row, own, groups[base])


def _has(scores: Scores, part: str) -> bool:
    """Whether the metric is about some of the part's examples; the whole always has a figure."""
    if part == ALL:
        return True
    return part in scores.keys.names and scores.sample.about(scores.keys.of(part)).size > 0


def _alone(name: str, column: Column, part: str, own: Group) -> Row:
    first, (estimate, reason) = own.first, _estimate(own)
    return Row(
        group=name,
        metric=column[0],
        evaluation=column[1],
        slice=part,
        higher_is_better=first.higher_is_better,
        unit=first.unit,
        n=len(first.keys.ids),
        clusters=first.keys.together.count,
        seeds=len(own.scores),
        estimate=estimate,
        difference=None,
        p=None,
        p_holm=None,
        detectable=None,
        level="checkpoint" if len(own.scores) == 1 else "method",
        verdict="baseline",
        note=reason,
        by_seed=tuple(zip(own.scores, own.runs.points.tolist(), strict=True)),
        forgetting=first.forgetting,
    )


def _estimate(own: Group) -> tuple[Estimate, str]:
    """The metric with its interval, or why it has none."""
    if own.plain and own.binary is not None:
        return binomial.share(own.binary[0].sum(), own.first.sample.n), ""
    found = infer(own.runs, own.independent)
    if own.binary is None:
        reason = "no interval: every example is alike" if found.alike else found.reason
        found = found.within(*own.bounds)
        return Estimate(found.value, found.low, found.high), reason
    return binomial.share(found.value * (rows := _rows(own, found)), rows), ""


def _rows(own: Group, found: Inference) -> float:
    """Single rows that would tell as much of a share as these clusters and seeds do."""
    if own.plain:
        return float(own.first.sample.n)
    clusters, rows = own.first.keys.together.count, own.first.sample.n * len(own.scores)
    if found.low is None or found.high is None:  # every run and example is alike, or there is one
        return float(clusters)
    half = (found.high - found.low) / 2
    return binomial.effective_rows(found.value, half, own.first.sample.n - 1, rows)


def _against(row: Row, own: Group, base: Group) -> Row:
    """The row with its difference: seed k against the baseline's seed k where both have several,
    else against the baseline's mean."""
    runs = (*own.scores.values(), *base.scores.values())
    if reason := next(filter(None, (_unlike(run, base.first) for run in runs)), ""):
        return _incomparable(row, reason)
    measured = {run.measured for run in runs}
    if len(measured) == 1 and "" not in measured:
        return replace(row, verdict="same measurement", note="same model, same rows")
    if own.plain and base.plain and (moved := _changes(own, base)) is not None:
        return _told(row, binomial.paired(*moved, own.first.sample.n))
    paired = own.runs.several and own.scores.keys() <= base.scores.keys()
    if paired and len(own.scores) < len(base.scores):
        alone = " and ".join(map(str, sorted(own.scores)))
        row = row.noted(f"against the baseline's seeds {alone} alone, which this one has too")
    other = base.only(list(own.scores)) if paired else base
    if paired or not base.runs.several:
        found = infer(own.runs - other.runs, own.independent)
    else:
        found = infer(own.runs, own.independent, base.runs)
    if found.alike and (way := _one_way(own, other, paired=paired)) is not None:
        # Whole clusters are counted in the place of examples and runs.
        up, down = ((way == sign) * own.independent for sign in (1, -1))
        found = binomial.paired(up, down, own.independent)
    least, most = own.bounds
    found = found.within(least - most, most - least)
    return _claimed(_told(row, found), own, base)


def _one_way(own: Group, base: Group, *, paired: bool) -> int | None:
    """1 where every example is right in every run and wrong in the baseline's, -1 where it is the
    other way, 0 where all are equal; None where they differ, or are not right or wrong.

    Args:
        paired: runs are held against those of their own seed.
    """
    ours, theirs = own.binary, base.binary
    if ours is None or theirs is None:
        return None
    pairs = zip(ours, theirs, strict=True) if paired else itertools.product(ours, theirs)
    ways = {int(way) for one, other in pairs for way in np.unique(one - other)}
    return ways.pop() if len(ways) == 1 else None


def _changes(own: Group, base: Group) -> tuple[int, int] | None:
    """Rows that a single run has right and the baseline's wrong, and the other way; None where rows
    are not right or wrong."""
    ours, theirs = own.binary, base.binary
    if ours is None or theirs is None:
        return None
    return int((ours[0] > theirs[0]).sum()), int((ours[0] < theirs[0]).sum())


def _claimed(row: Row, own: Group, base: Group) -> Row:
    """What the difference is about and worth, where the two sides are not known alike well."""
    if 2 in (len(own.scores), len(base.scores)):
        row = row.noted("only 2 seeds")
    if own.first.trained and not own.runs.several and base.runs.several:
        seeds = len(base.scores)
        return row.noted(
            f"one checkpoint against the baseline's {seeds} seeds: another seed of it may differ"
        )
    if base.first.trained and own.runs.several and not base.runs.several:
        return row.noted("the baseline is one checkpoint: how its seeds would differ is unknown")
    return row


def against_constant(group: str, column: Column, own: Mapping[int, Scores], constant: float) -> Row:
    """A variant's row on all examples, its difference from a number that is known.

    Args:
        own: seed -> scores.
    """
    runs = Group.of(own)
    row = _alone(group, column, ALL, runs)
    if runs.binary is not None:
        rows = _rows(runs, infer(runs.runs, runs.independent))
        return _told(row, binomial.share_against(row.estimate.value * rows, rows, constant))
    shifted = Runs(runs.runs.points - constant, runs.runs.moves)
    least, most = (bound - constant for bound in runs.bounds)
    return _told(row, infer(shifted, runs.independent).within(least, most))


def _told(row: Row, found: Inference) -> Row:
    known = found.reason in row.note or (found.p == 1 and row.note.startswith("no interval"))
    return replace(
        row if known else row.noted(found.reason),
        difference=Estimate(found.value, found.low, found.high),
        p=found.p,
        detectable=found.detectable,
    )


def _incomparable(row: Row, note: str) -> Row:
    return replace(row, verdict="incomparable", note=note)


def _unlike(first: Scores, other: Scores) -> str:
    """Why two figures cannot be compared; empty where they can."""
    if first.version != other.version:
        return "not the same scorer, or its version"
    same_keys = first.keys is other.keys or first.keys.ids == other.keys.ids
    if not same_keys or first.rows != other.rows:
        return "not the same examples"
    if first.model == other.model and first.template != other.template:
        return "not the same chat template"
    if first.judge != other.judge:
        return "not by the same reward model"
    if not _same_tokens(first, other):
        return "not the same tokens: another tokenizer (bits_per_byte compares these)"
    return ""


def _same_tokens(first: Scores, other: Scores) -> bool:
    """Whether two figures a token are about the same tokens; true where tokens do not matter."""
    own, base = (s.sample.columns.get("tokens") for s in (first, other))
    return own is None or base is None or np.array_equal(own, base)
