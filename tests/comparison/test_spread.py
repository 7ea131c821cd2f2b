"""How the parts of a spread make an interval, and where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.comparison.intervals import Runs, Spread, infer, level, spread_of, student


def runs(values: object) -> Runs:
    """Runs of a mean, on examples that each stand alone: values of shape (S, n)."""
    table = np.atleast_2d(np.asarray(values, float))
    means = table.mean(axis=1)
    return Runs(means, table - means[:, None])


DRAWN = np.random.default_rng(4).exponential(size=(3, 12))


def test_the_spread_of_a_mean_has_the_moments_of_its_examples() -> None:
    value, spread, reason = spread_of(runs(DRAWN[0]), 12)
    assert (value, reason) == (pytest.approx(DRAWN[0].mean()), "")
    assert spread.whole == spread.clusters == pytest.approx(stats.sem(DRAWN[0]) ** 2)
    assert (spread.freedom, spread.seeds) == (11, ())
    # The third moment over the second to 3/2, over the root of the number.
    assert spread.skew == pytest.approx(stats.skew(DRAWN[0]) / math.sqrt(12))
    assert spread.error == pytest.approx(stats.sem(DRAWN[0]))


def test_what_seeds_and_examples_cause_together_is_taken_from_the_examples_part() -> None:
    table = DRAWN + np.array([[0.0], [2.0], [5.0]])
    _, spread, _ = spread_of(runs(table), 12)
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    both = (rest**2).sum() / (2 * 11) / (3 * 12)
    assert spread.whole == pytest.approx(stats.sem(table.mean(0)) ** 2)
    assert spread.clusters == pytest.approx(max(spread.whole - both, 0.0))
    assert spread.seeds == ((pytest.approx(table.mean(1).var(ddof=1) / 3), 2),)
    assert spread.error == pytest.approx(math.sqrt(spread.clusters + spread.seeds[0][0]))


def test_both_sides_seeds_are_parts_by_themselves_and_their_values_are_subtracted() -> None:
    one, base = DRAWN + np.array([[0.0], [2.0], [5.0]]), DRAWN[:2, ::-1] * 0.5
    value, spread, _ = spread_of(runs(one), 12, runs(base))
    assert value == pytest.approx(one.mean() - base.mean())
    assert [freedom for _, freedom in spread.seeds] == [2, 1]
    assert spread.whole == pytest.approx(stats.sem(one.mean(0) - base.mean(0)) ** 2)
    _, lone, _ = spread_of(runs(one), 12, runs(base[0]))
    assert [freedom for _, freedom in lone.seeds] == [2], "one run has no spread of its own"


def test_an_error_is_never_below_that_of_these_very_checkpoints() -> None:
    spread = Spread(0.09, 0.0, 20, ((0.04, 2),), 0.0)
    assert spread.error == 0.3
    assert Spread(0.0, 0.0, 20, ((0.04, 2),), 0.0).error == 0.2
    assert spread.reach(0.05, 1) == pytest.approx(
        max(0.3 * stats.t.ppf(0.975, 20), 0.2 * stats.t.ppf(0.975, 2))
    )


@pytest.mark.parametrize(
    ("independent", "reason"),
    [(0, "no interval: no independent example"),
     (1, "no interval: one independent example alone"), (2, "")],
)  # fmt: skip
def test_two_independent_examples_are_the_fewest_that_have_a_spread(
    independent: int, reason: str
) -> None:
    value, spread, told = spread_of(runs([1.0, 3.0]), independent)
    assert (value, told) == (2.0, reason)
    assert (spread is None) is bool(reason)
    assert infer(runs([1.0, 3.0]), independent).reason == reason


@pytest.mark.parametrize("which", ["value", "move", "base"])
def test_what_is_not_always_a_number_has_no_spread(which: str) -> None:
    good = runs([1.0, 2.0, 4.0])
    bad = Runs(np.array([np.inf]) if which == "value" else good.points, good.moves.copy())
    if which != "value":
        bad.moves[0, 1] = np.nan
    sides = (good, 3, bad) if which == "base" else (bad, 3)
    found = infer(*sides)
    assert (found.low, found.p, found.reason) == (
        None,
        None,
        "no interval: it is not always a number",
    )
    assert not found.alike


@pytest.mark.parametrize(
    ("value", "p", "words"),
    [
        (0.0, 1.0, "no example differs"), (1e-12, 1.0, "no example differs"),
        (1e-9, 2 * 0.5**5, "moved alike"), (-3.0, 2 * 0.5**5, "moved alike"),
    ],
)  # fmt: skip
def test_without_a_spread_there_is_the_sign_test_alone(value: float, p: float, words: str) -> None:
    found = infer(Runs(np.array([value]), np.zeros((1, 5))), 5)
    assert (found.low, found.high, found.detectable, found.p) == (None, None, None, p)
    assert words in found.reason
    assert found.alike


@pytest.mark.parametrize(
    ("value", "error", "nothing"),
    [(0.0, 1e-12, True), (0.0, 2e-12, False), (1000.0, 1e-9, True), (1000.0, 2e-9, False),
     (-1000.0, 1e-9, True), (1.0, 0.0, True)],
)  # fmt: skip
def test_a_spread_that_rounding_makes_is_none(value: float, error: float, nothing: bool) -> None:
    assert Spread(error**2, 0.0, 5, (), 0.0).nothing(value) is nothing
    assert Spread(0.0, 0.0, 5, ((error**2, 1),), 0.0).nothing(value) is nothing


@pytest.mark.parametrize("freedom", [3, 40])
def test_what_could_be_seen_is_the_wider_side_and_80_percent(freedom: int) -> None:
    """By Student's curve where nothing is skewed; where it is, one side reaches farther."""
    half = np.random.default_rng(1).normal(size=(freedom + 1) // 2)
    values = np.concatenate([half, -half, [] if freedom % 2 else [0.0]])
    count = len(values)
    t = stats.t(count - 1)
    found = infer(runs(values + 0.2), count)
    wanted = (t.isf(0.025) + t.ppf(0.8)) * stats.sem(values)
    assert found.detectable == pytest.approx(wanted)
    skewed = infer(runs(DRAWN[0]), 12)
    wider = max(skewed.value - skewed.low, skewed.high - skewed.value)
    _, spread, _ = spread_of(runs(DRAWN[0]), 12)
    assert skewed.detectable == pytest.approx(wider + spread.reach(0.4, 1))


@pytest.mark.parametrize("gap", [0.0, 1e-9, 0.5, 3.0, 100.0, 138.0])
def test_a_level_is_where_the_interval_just_reaches(gap: float) -> None:
    """Of an interval that reaches -log(alpha) far."""
    found = level(lambda alpha: -math.log(alpha) - gap)
    assert found == pytest.approx(math.exp(-gap), rel=1e-9)


def test_a_level_is_at_most_1_and_never_0() -> None:
    assert level(lambda alpha: 1.0) == 1.0
    assert level(lambda alpha: 0.0) == 1.0
    assert level(lambda alpha: -1.0) == 1e-60
    assert level(lambda alpha: -math.log(alpha) - 150) == 1e-60


@pytest.mark.parametrize("freedom", [1, 7, 1000])
@pytest.mark.parametrize("tail", [0.4, 0.025, 1e-9])
def test_students_quantiles_are_scipys(freedom: int, tail: float) -> None:
    assert student(tail, freedom) == pytest.approx(stats.t.isf(tail, freedom))


def test_a_hair_of_skew_is_none() -> None:
    """Where the cubic transformation would divide by almost nothing."""
    plain = Spread(0.01, 0.01, 30, (), 0.0)
    for skew in (1e-10, -1e-10, 1e-7, -1e-7):
        spread = Spread(0.01, 0.01, 30, (), skew)
        for side in (-1, 1):
            assert spread.reach(0.05, side) == pytest.approx(plain.reach(0.05, side), rel=1e-6)


@pytest.mark.parametrize("value", [-0.4, 0.4])
def test_p_is_the_level_at_which_the_nearer_end_is_zero(value: float) -> None:
    spread = Spread(0.04, 0.03, 9, ((0.01, 2),), 0.4)
    p, side = spread.p(value), -1 if value > 0 else 1
    assert spread.reach(p, side) == pytest.approx(abs(value))
    assert spread.p(0.0) == 1.0
