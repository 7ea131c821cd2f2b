"""Rows of a comparison: a variant's metric with its interval, and its difference from a baseline.

Here `group` is the training runs (one for each seed) of one variant on one metric, and `base` those
of the variant that it is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.comparison import binomial
from harness.comparison.contrasts import Contrast
from harness.comparison.differences import contrast_of, same_measurement
from harness.comparison.groups import Group, effective_rows, partner
from harness.comparison.intervals import CONFIDENCE, infer
from harness.comparison.result import ALL, Estimate, Row
from harness.comparison.scores import Column, Scores
from harness.core.text import number_of

AllScores = Mapping[str, Mapping[int, Mapping[Column, Scores]]]
"""Variant -> seed -> (metric, evaluation) -> scores."""


_NO_RESULT = "the baseline has no result here"
_OVER_START = "it compares with the variant's own start, not with the baseline"


def rows_of(scores: AllScores, baseline: str, baselines: Mapping[str, str] = {}) -> list[Row]:
    """A row for every variant, metric, evaluation and slice.

    Holm's adjustment and the verdicts are not in them yet: `verdicts.adjusted` adds these.

    Args:
        baseline: the variant that the others are compared with.
        baselines: variant -> the other variant that it is compared with instead.
    """
    against = {name: baselines.get(name, baseline) for name in scores}
    columns: dict[Column, None] = {}
    for seeds in scores.values():
        for scores_by_column in seeds.values():
            columns.update(dict.fromkeys(scores_by_column))
    return [
        row
        for column in columns
        for part in _slices_of(scores, column)
        for row in _cell_rows(scores, column, part, against)
    ]


def _slices_of(scores: AllScores, column: Column) -> list[str]:
    """All examples, then each group of examples where there are several groups."""
    names = {
        name
        for seeds in scores.values()
        for scored in seeds.values()
        if column in scored
        for name in scored[column].keys.names
    }
    named = sorted(name for name in names if name)
    return [ALL, *named] if len(named) > 1 else [ALL]


def _cell_rows(
    scores: AllScores, column: Column, part: str, against: Mapping[str, str]
) -> Iterator[Row]:
    """The rows of one metric, evaluation and slice: one for each variant that has scores there."""
    on_slice = {
        group: {
            seed: columns[column].slice(part)
            for seed, columns in seeds.items()
            if column in columns and _counts_any(columns[column], part)
        }
        for group, seeds in scores.items()
    }
    groups = {name: Group.of(seeds) for name, seeds in on_slice.items() if seeds}
    constant = _constant(list(groups.values()))
    for name, group in groups.items():
        row = _without_difference(name, column, part, group)
        if lost := len(scores[name]) - len(group.scores):
            row = row.noted(f"{lost} of {number_of(len(scores[name]), 'seed')} have no result here")
        if name == (base := against[name]):
            yield row
        elif base not in groups and group.first.even is not None:
            yield with_difference(row, contrast_of(group, group.first.even))
        elif base not in groups:
            yield _incomparable(row, _OVER_START if group.first.of_start else _NO_RESULT)
        else:
            row = _with_difference_from(row, group, groups[base])
            alike = constant and row.difference is not None
            yield _says_nothing(row) if alike else row


def _constant(groups: Sequence[Group]) -> bool:
    """Whether every run of every variant has the same value on every example."""
    values = {float(point) for group in groups for point in group.runs.points}
    return len(values) == 1 and all(map(_unmoved, groups))


def _unmoved(group: Group) -> bool:
    """Whether no example moves the metric; that whole clusters do not is not enough, as examples
    in one may cancel each other."""
    means = [run.sample for run in group.scores.values() if run.sample.aggregate == "mean"]
    if any(np.ptp(np.asarray(sample.columns["value"], float)) for sample in means):
        return False
    return bool(np.allclose(group.runs.moves, 0, rtol=0, atol=1e-12))


def _says_nothing(row: Row) -> Row:
    row = replace(row, constant=True)
    return row.noted(f"every variant has {row.estimate.value:.4g}, whichever examples are taken")


def _counts_any(scores: Scores, part: str) -> bool:
    """Whether the metric counts at least one example of the slice; it always has a value on ALL."""
    if part == ALL:
        return True
    return part in scores.keys.names and scores.sample.about(scores.keys.of(part)).size > 0


def _without_difference(name: str, column: Column, part: str, group: Group) -> Row:
    """A variant's row without a difference, as the baseline has it."""
    first, (estimate, reason) = group.first, _estimate(group)
    corrected = _judges_error(first) if part == ALL else ""  # labels are of all examples
    return Row(
        group=name,
        metric=column[0],
        evaluation=column[1],
        slice=part,
        higher_is_better=first.higher_is_better,
        unit=first.unit,
        n=len(first.keys.ids),
        clusters=first.keys.together.count,
        seeds=len(group.scores),
        estimate=estimate,
        difference=None,
        p=None,
        p_holm=None,
        detectable=None,
        level="checkpoint" if len(group.scores) == 1 else "method",
        verdict="baseline",
        note="; ".join(note for note in (reason, corrected) if note),
        by_seed=tuple(zip(group.scores, group.runs.points.tolist(), strict=True)),
        forgetting=first.forgetting,
        chance=first.chance,
        judged=first.judged,
        credentials=first.trust.credentials,
        trusted=first.judged and not first.doubt,
    )


def _judges_error(scores: Scores) -> str:
    """What the win rate is with the judge's error in its interval, where labels tell it."""
    rate = scores.trust.rate if scores.judged else None
    return "" if rate is None else f"with the judge's error, the win rate is {rate.both}"


def _estimate(group: Group) -> tuple[Estimate, str]:
    """The metric with its interval, and why the interval is missing (empty if it is not)."""
    if group.plain and group.binary is not None:
        return binomial.share(group.binary[0].sum(), group.first.sample.n), ""
    inference = infer(group.runs, group.independent)
    if group.binary is None:
        reason = "no interval: every example is alike" if inference.alike else inference.reason
        inference = inference.within(*group.bounds)
        return Estimate(inference.value, inference.low, inference.high), reason
    return binomial.share(inference.value * (rows := effective_rows(group, inference)), rows), ""


def _with_difference_from(row: Row, group: Group, base: Group) -> Row:
    """The row with its difference from the baseline.

    Seed k is compared with the baseline's seed k where both have several seeds, and with the mean
    over the baseline's seeds otherwise.
    """
    runs = (*group.scores.values(), *base.scores.values())
    if reason := next(filter(None, (why_incomparable(run, base.first) for run in runs)), ""):
        return _incomparable(row, reason)
    if same_measurement(group, base):
        return replace(row, verdict="same measurement", note="same model, same rows")
    _, paired = partner(group, base)
    if paired and len(group.scores) < len(base.scores):
        alone = " and ".join(map(str, sorted(group.scores)))
        row = row.noted(f"against the baseline's seeds {alone} alone, which this one has too")
    return _with_seed_notes(with_difference(row, contrast_of(group, base)), group, base)


def _with_seed_notes(row: Row, group: Group, base: Group) -> Row:
    """Adds a note where the number of seeds limits what the difference says."""
    if 2 in (len(group.scores), len(base.scores)):
        row = row.noted("only 2 seeds")
    if group.first.trained and not group.runs.several and base.runs.several:
        seeds = len(base.scores)
        return row.noted(
            f"one checkpoint against the baseline's {number_of(seeds, 'seed')}: another"
            " seed of it may differ"
        )
    if base.first.trained and group.runs.several and not base.runs.several:
        return row.noted("the baseline is one checkpoint: how its seeds would differ is unknown")
    return row


def against_constant(
    name: str, column: Column, scores: Mapping[int, Scores], constant: float
) -> Row:
    """A variant's row on all examples, with its difference from a constant.

    Args:
        name: the variant.
        scores: by seed.
        constant: known without doubt, such as the one half of a preference.
    """
    group = Group.of(scores)
    row = _without_difference(name, column, ALL, group)
    return with_difference(row, contrast_of(group, constant))


def with_difference(row: Row, contrast: Contrast) -> Row:
    """The row with its difference, as a claim with the same confidence would have it."""
    ends = contrast.interval(1 - CONFIDENCE)
    low, high = (None, None) if ends is None else ends
    known = contrast.reason in row.note or (
        contrast.value == 0 and row.note.startswith("no interval")
    )
    return replace(
        row if known else row.noted(contrast.reason),
        difference=Estimate(contrast.value, low, high),
        p=contrast.p(0.0),
        detectable=contrast.detectable(1 - CONFIDENCE),
    )


def _incomparable(row: Row, note: str) -> Row:
    return replace(row, verdict="incomparable", note=note)


def why_incomparable(first: Scores, other: Scores) -> str:
    """Why two metrics cannot be compared; empty if they can."""
    if first.version != other.version:
        return "not the same scorer, or its version"
    if first.model == other.model and first.template != other.template:
        return "not the same chat template"
    same_keys = first.keys is other.keys or first.keys.ids == other.keys.ids
    if not same_keys or first.rows != other.rows:
        return "not the same examples"
    if first.judge != other.judge:
        return "not by the same reward model"
    if not _same_tokens(first, other):
        return "not the same tokens: another tokenizer (bits_per_byte compares these)"
    return ""


def _same_tokens(first: Scores, other: Scores) -> bool:
    """Whether two metrics per token count the same tokens; True if they do not count tokens."""
    tokens, other_tokens = (s.sample.columns.get("tokens") for s in (first, other))
    return tokens is None or other_tokens is None or np.array_equal(tokens, other_tokens)
