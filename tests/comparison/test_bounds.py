"""No interval reaches past what its metric can be, whichever the kind, and each holds its value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.comparison.aligned import scores_of
from harness.comparison.claims import decide
from harness.comparison.contrasts import LEAST_P, Alike, Contrast, Moved, Watched
from harness.comparison.differences import bounds_of, contrast_of
from harness.comparison.groups import Group
from harness.comparison.imported import _estimate
from harness.comparison.intervals import Spread
from harness.comparison.measured import Measured
from harness.comparison.result import ClaimVerdict, Estimate
from harness.comparison.rows import rows_of
from harness.comparison.scores import Scores
from harness.comparison.unpaired import Summaries
from harness.core import registry
from harness.core.aggregate import AGGREGATES
from harness.suite.claims import parse_claim

UNBOUNDED = {"reward", "preference_margin", "any"}
"""Metrics that can have every value; `any` is a module of evaluate whose suite says no bounds."""
FIELDS: dict[str, dict[str, Any]] = {
    "evaluate": {"values": ["any"], "bounds": None}, "classification": {"labels": ["a", "b"]},
}  # fmt: skip
BOUNDS = [(0.0, 1.0), (-math.inf, 1.0), (0.0, math.inf), (-1.0, 1.0), (0.0, 100.0)]
SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=9)


@pytest.mark.parametrize("name", registry.names("scorer"))
def test_every_metric_says_what_it_can_be(name: str) -> None:
    kind: Any = registry.find("scorer", name)
    if not kind.__module__.startswith("harness."):
        return
    metrics = kind.model_construct(**FIELDS.get(name, {})).declared()
    endless = {
        metric
        for metric, declared in metrics.items()
        if not any(map(math.isfinite, declared.bounds or AGGREGATES[declared.aggregate].bounds))
    }
    assert endless <= UNBOUNDED


def test_the_bounds_of_a_metric_of_evaluate_are_the_suites() -> None:
    kind: Any = registry.find("scorer", "evaluate")
    for told, bounds in (((0, 1), (0, 1)), ((0, None), (0, math.inf)), (None, None)):
        (metric,) = kind.model_construct(values=["any"], bounds=told).declared().values()
        assert metric.bounds == bounds


def within(estimate: Estimate | None, bounds: tuple[float, float]) -> bool:
    """Whether there is no interval, or one that holds its value and lies within bounds."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return True
    return bounds[0] <= estimate.low <= estimate.value <= estimate.high <= bounds[1]


def scaled(shares: list[float], bounds: tuple[float, float]) -> np.ndarray:
    """Values within bounds, an open end being some way off."""
    least, most = (end if math.isfinite(end) else np.sign(end) * 7 for end in bounds)
    return least + (most - least) * np.asarray(shares)


@given(SHARES, SHARES, st.sampled_from(BOUNDS), st.integers(1, 3), st.integers(1, 2))
@settings(max_examples=30, deadline=None)
def test_intervals_of_rows_and_differences_lie_within_bounds(
    shares: list[float], others: list[float], bounds: tuple[float, float], seeds: int, size: int
) -> None:
    """Also where values are at an end, or alike, in clusters, and over several seeds."""
    count = min(len(shares), len(others))
    ids = [str(i) for i in range(count)]

    def run(drawn: list[float], seed: int) -> dict[tuple[str, str], Scores]:
        values = scaled(np.roll(drawn[:count], seed).tolist(), bounds)
        clusters = [str(i // size) for i in range(count)]
        return {("m", "e"): scores_of(ids, {"value": values}, clusters=clusters, bounds=bounds)}

    runs = {
        name: {seed: run(drawn, seed) for seed in range(seeds)}
        for name, drawn in (("base", others), ("variant", shares))
    }
    for row in rows_of(runs, "base"):
        assert within(row.estimate, bounds)
        assert within(row.difference, bounds_of(bounds, bounds, 1.0))
    group = Group.of({seed: run["m", "e"] for seed, run in runs["variant"].items()})
    base = Group.of({seed: run["m", "e"] for seed, run in runs["base"].items()})
    for other in (base, float(scaled([0.3], bounds)[0])):
        taken = (other, other) if isinstance(other, float) else bounds
        for looks in ("once", "repeated"):
            contrast = contrast_of(group, other, looks=looks)
            ends = contrast.interval(0.05)
            told = None if ends is None else Estimate(contrast.value, *ends)
            ends = bounds_of(bounds, taken, 1.0)
            assert within(told, (ends[0] - 1e-9, ends[1] + 1e-9))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1e-3, 3), st.sampled_from(BOUNDS))
@settings(max_examples=60, deadline=None)
def test_published_figures_differ_within_bounds(
    one: float, other: float, error: float, bounds: tuple[float, float]
) -> None:
    ours, theirs = (
        [Measured("m", "e", float(value), n=50, stderr=error, bounds=bounds)]
        for value in scaled([one, other], bounds)
    )
    claim = parse_claim("a better b on m")
    blank = ClaimVerdict(claim, "a", "b", "m", "e", "incomparable")
    (verdict,) = decide([Summaries(claim, blank, ours, theirs)])
    assert within(verdict.difference, bounds_of(bounds, bounds, 1.0))
    assert within(_estimate(ours[0]), bounds)


WIDE = Spread(1.0, 1.0, 9, (), 0.0)


@pytest.mark.parametrize("contrast", [
    Moved(0.3, WIDE, (-1.0, 1.0)), Watched(Moved(0.3, WIDE, (-1.0, 1.0)), 10),
    Alike(0.0, 10, (-1.0, 1.0)),
])  # fmt: skip
def test_what_a_difference_cannot_be_is_rejected_whatever_its_spread(contrast: Contrast) -> None:
    """As its interval of every confidence leaves it out."""
    assert contrast.p(1.2) == contrast.p(-1.2) == LEAST_P
    assert contrast.interval(0.5)[0] >= -1  # type: ignore[index]
    assert contrast.p(0.1) > 0.1  # type: ignore[operator]


def test_a_cosine_that_rounding_took_above_1_has_an_interval_that_ends_there() -> None:
    values = np.asarray([1.0000002, 1.0000001, 1.0000003, 1.0])
    scores = {("m", "e"): scores_of(list("abcd"), {"value": values}, bounds=(-math.inf, 1.0))}
    (row,) = rows_of({"base": {0: scores}}, "base")
    assert row.estimate.high == row.estimate.value
    assert row.estimate.low is not None
