"""A judge that rates single answers, as one that compares two: by which of them it rates higher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.commands.session import Opened
from harness.comparison.judged_verdicts import ratings_in
from harness.core.errors import SuiteError
from harness.data.judge_labels import Pair
from harness.planning.duels import duels
from harness.planning.judging import Judged
from harness.scorers.pointwise import Pointwise
from harness.stages.score import Score

Ratings = Mapping[str, float | None]
_ALIKE = 1e-9
"""Ratings that differ by less are equal."""


def rated(opened: Opened, judged: Judged, pairs: Sequence[Pair]) -> list[dict[str, int | None]]:
    """For each pair, dimension -> 1 if its first answer is rated higher, -1 if the other is, 0 if
    both are rated alike, None if a rating is missing. The dimension `` is all of them together: the
    sum of their differences, each as a share of its scale.

    Raises:
        SuiteError: no pair is of answers that the judge rated in this suite.
    """
    by_name: dict[str, Mapping[str, Ratings]] = {}
    for duel in duels(opened.plan, judged):
        for name, stage in ((duel.one, duel.stage), (duel.other, duel.rated)):
            if stage is not None:
                by_name[name] = {**by_name.get(name, {}), **ratings_in(stage, opened.store)}
    scales = _scales(judged)
    signs = [_signs(pair, by_name, scales) for pair in pairs]
    if not any(sign is not None for of_pair in signs for sign in of_pair.values()):
        raise SuiteError(
            f"'{judged.name}' rates answers, and rated none of these",
            fix="label answers of this suite (`harness judge label`), so that a label has"
            " example_id, one_is and other_is",
        )
    return signs


def _scales(judged: Judged) -> dict[str, tuple[int, int]]:
    scorer = Score.of(judged.stage).built()
    assert isinstance(scorer, Pointwise), "of the judges, only this scorer rates"
    return {name: dimension.scale for name, dimension in scorer.dimensions.items()}


def _signs(
    pair: Pair,
    by_name: Mapping[str, Mapping[str, Ratings]],
    scales: Mapping[str, tuple[int, int]],
) -> dict[str, int | None]:
    one, other = (
        by_name.get(name, {}).get(pair.example_id, {}) for name in (pair.one_is, pair.other_is)
    )
    gaps: dict[str, float | None] = {}
    for name, (lowest, highest) in scales.items():
        first, second = one.get(name), other.get(name)
        gaps[name] = None
        if first is not None and second is not None:
            gaps[name] = (first - second) / (highest - lowest)
    together = [gap for gap in gaps.values() if gap is not None]
    gaps[""] = sum(together) if len(together) == len(scales) else None
    return {name: _sign(gap) for name, gap in gaps.items()}


def _sign(gap: float | None) -> int | None:
    if gap is None:
        return None
    return 0 if abs(gap) < _ALIKE else 1 if gap > 0 else -1
