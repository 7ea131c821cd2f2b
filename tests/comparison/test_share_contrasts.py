"""Differences of shares: held to exact tests, to counting every outcome, and to their mirror."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.comparison.contrasts import LEAST_P
from harness.comparison.power import mcnemar_detectable, mcnemar_power
from harness.comparison.share_contrasts import OneShare, PairedShares

BOTH = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)

counts = st.integers(1, 60).flatmap(
    lambda rows: st.tuples(st.integers(0, rows), st.integers(0, rows)).map(
        lambda two: PairedShares(two[0], min(two[1], rows - two[0]), rows)
    )
)
levels = st.floats(1e-6, 0.6)


def power(design: PairedShares, null: float, truth: float) -> float:
    """How likely the test shows on which side of `null` the truth lies, by every outcome."""
    changed = max((design.up + design.down + 1) / (design.rows + 2), abs(truth))
    shares = [(changed + truth) / 2, (changed - truth) / 2, 1 - changed]
    outcomes = np.array([
        (up, down, design.rows - up - down)
        for up in range(design.rows + 1) for down in range(design.rows + 1 - up)
    ])  # fmt: skip
    chances = stats.multinomial.pmf(outcomes, design.rows, shares)
    total = 0.0
    for (up, down, _), chance in zip(outcomes.tolist(), chances, strict=True):
        seen = PairedShares(up, down, design.rows)
        if chance > 1e-9 and (seen.value > null) is (truth > null) and seen.p(null) < 0.05:
            total += chance
    return total


@settings(max_examples=60, deadline=None)
@given(shares=counts, alpha=levels, null=st.floats(-1.5, 1.5))
def test_turned_shares_have_turned_numbers(shares: PairedShares, alpha: float, null: float) -> None:
    turned = PairedShares(shares.down, shares.up, shares.rows)
    low, high = shares.interval(alpha)
    assert turned.interval(alpha) == pytest.approx((-high, -low), abs=1e-9)
    assert turned.p(-null) == pytest.approx(shares.p(null), rel=1e-6)
    assert turned.error() == shares.error()
    assert turned.detectable(alpha, -null) == shares.detectable(alpha, null)


@settings(max_examples=60, deadline=None)
@given(shares=counts, alpha=levels)
def test_an_interval_holds_its_difference_and_nothing_beyond_all_rows(
    shares: PairedShares, alpha: float
) -> None:
    low, high = shares.interval(alpha)
    assert -1 <= low <= shares.value <= high <= 1
    assert (low == -1) is (shares.value == -1)
    assert (high == 1) is (shares.value == 1)


@settings(max_examples=60, deadline=None)
@given(shares=counts)
def test_a_value_that_is_farther_away_is_no_more_likely(shares: PairedShares) -> None:
    for side in (-1, 1):
        nulls = [null for null in np.linspace(shares.value, side, 30) if abs(null) < 1 - 1e-9]
        ps = [shares.p(float(null)) for null in nulls]
        assert all(after <= before * (1 + 1e-9) for before, after in itertools.pairwise(ps))
    if abs(shares.value) < 1:
        assert shares.p(shares.value) == pytest.approx(1)


@pytest.mark.parametrize("shares", [PairedShares(12, 0, 12), PairedShares(0, 12, 12)])
def test_where_all_rows_moved_one_way_a_move_of_all_is_not_rejected(shares: PairedShares) -> None:
    assert shares.p(shares.value) == 1.0
    assert shares.p(-shares.value) == shares.p(1.5 * shares.value) == LEAST_P
    assert shares.value in shares.interval(0.05)


def test_no_outcome_makes_a_move_of_every_row_likely_but_itself() -> None:
    for shares in (PairedShares(11, 0, 12), PairedShares(0, 0, 12), PairedShares(3, 9, 12)):
        assert shares.p(1.0) == shares.p(-1.0) == shares.p(1.2) == LEAST_P


@pytest.mark.parametrize("rows", [6, 40, 900])
def test_zero_belongs_to_the_interval_where_its_p_is_the_level_itself(rows: int) -> None:
    """Six changed rows, all one way: p is 1/32 to the last digit."""
    shares = PairedShares(6, 0, rows)
    assert shares.p(0) == 1 / 32
    assert shares.interval(1 / 32)[0] <= 0
    assert shares.interval(1 / 32 + 1e-9)[0] > 0


def test_zero_is_left_out_where_only_the_exact_test_rejects_it() -> None:
    """At small levels the score test, whose tails are the normal's, is the more careful one."""
    shares, alpha = PairedShares(20, 0, 100), 4e-6
    assert shares.p(0) < alpha < 2 * stats.norm.sf(math.sqrt(20))
    low, high = shares.interval(alpha)
    assert 0 < low < 1e-9
    assert high > shares.value
    assert PairedShares(0, 20, 100).interval(alpha) == pytest.approx((-high, -low))


@pytest.mark.parametrize("rows", [500, 5000])
def test_no_p_is_smaller_than_the_least(rows: int) -> None:
    for shares in (PairedShares(rows, 0, rows), PairedShares(rows // 2, 1, rows)):
        assert [shares.p(null) for null in (-0.5, -0.1, 0.0)] == [LEAST_P] * 3


@pytest.mark.parametrize(
    ("design", "null"),
    [
        (PairedShares(20, 12, 120), 0.05), (PairedShares(20, 12, 120), -0.1),
        (PairedShares(2, 2, 120), -0.1), (PairedShares(8, 8, 120), 0.5),
        (PairedShares(0, 0, 160), -0.05), (PairedShares(30, 25, 60), 0.2),
    ],
)  # fmt: skip
def test_a_detectable_difference_beyond_a_limit_is_shown_in_80_percent(
    design: PairedShares, null: float
) -> None:
    """Also where fewer rows changed than the limit is large: so large a difference changes more."""
    seen = design.detectable(0.05, null)
    shown = [power(design, null, null + side * seen) for side in (-1, 1)]
    assert min(shown) > 0.7
    assert 0.75 < np.mean(shown) < 0.93


def test_a_limit_beyond_what_can_be_leaves_nothing_to_detect() -> None:
    for null in (-1.0, 1.0, 1.4):
        assert PairedShares(3, 2, 50).detectable(0.05, null) == 0


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
def test_detectable_differences_beyond_a_limit_follow_the_level(alpha: float) -> None:
    """The standard error at the limit, times the quantiles of the level and of 80%."""
    error = math.sqrt((33 / 122 - 0.1**2) / 120)
    wanted = (stats.norm.isf(alpha / 2) + stats.norm.ppf(0.8)) * error
    assert PairedShares(20, 12, 120).detectable(alpha, 0.1) == pytest.approx(wanted)


@pytest.mark.parametrize("null", [0.001, 0.01, 0.2, 0.9])
def test_where_no_row_changed_the_likeliest_shares_are_all_gains(null: float) -> None:
    """So that the score is that of a binomial share of 0, of which `null` is expected."""
    error = math.sqrt(null * (1 - null) / 25)
    assert PairedShares(0, 0, 25).p(null) == pytest.approx(2 * stats.norm.sf(null / error))


def test_standard_error_is_that_of_the_differences_with_one_changed_row_more() -> None:
    up, down, rows = 300, 200, 4000
    rowwise = np.repeat([1.0, -1.0, 0.0], [up, down, rows - up - down])
    wanted = stats.sem(rowwise)
    assert PairedShares(up, down, rows).error() == pytest.approx(wanted, rel=2e-3)
    assert PairedShares(1, 0, 2).error() == pytest.approx(math.sqrt((2 / 4 - 1 / 4) / 2))
    assert PairedShares(0, 0, 8).error() == pytest.approx(math.sqrt(0.1 / 8))
    assert PairedShares(12, 0, 12).error() == pytest.approx(math.sqrt(13 / 28 / 12))


@pytest.mark.parametrize(
    ("up", "down", "rows"), [(9, 5, 60), (14, 6, 80), (2, 0, 30), (30, 20, 70)]
)
def test_so_many_more_rows_are_the_fewest_that_show_the_same_gain(
    up: int, down: int, rows: int
) -> None:
    more, reason = PairedShares(up, down, rows).needed(0.0, 0.05, rows)
    assert (more > 0, reason) == (True, "")
    changed, gain = (up + down) / rows, (up - down) / rows
    assert mcnemar_power(rows + more, changed, gain, 0.05) >= 0.8
    assert mcnemar_power(rows + more - 1, changed, gain, 0.05) < 0.8
    assert PairedShares(up, down, rows).needed(0.0, 0.05, rows + more) == (None, "")
    assert PairedShares(up, down, rows).needed(0.0, 0.05, rows + more - 1) == (1, "")


def test_no_more_rows_are_asked_for_where_the_shares_are_alike() -> None:
    assert PairedShares(52, 48, 200).needed(0.0, 0.05, 200)[0] > 1000
    more, reason = PairedShares(7, 7, 90).needed(0.0, 0.05, 90)
    assert more is None
    assert "no test set would do" in reason
    # Six rows alone show nothing, so that nothing is so close to it that no test set would do.
    assert PairedShares(1, 0, 6).detectable(0.05) is not None
    assert PairedShares(1, 0, 5).detectable(0.05) is None
    assert PairedShares(1, 0, 5).needed(0.0, 0.05, 5)[0] > 0


@pytest.mark.parametrize("null", [-0.02, 0.02, 0.12])
def test_so_many_more_rows_bring_the_detectable_difference_down_to_the_gap(null: float) -> None:
    shares = PairedShares(30, 20, 200)
    more, reason = shares.needed(null, 0.05, 200)
    assert (more > 0, reason) == (True, "")
    seen = shares.detectable(0.05, null) * math.sqrt(200 / (200 + more))
    assert seen == pytest.approx(abs(shares.value - null), rel=0.02)


# --- one share and a number ----------------------------------------------------------------------


@pytest.mark.parametrize(("correct", "rows"), [(0, 9), (4, 9), (9, 9), (61.5, 92.25)])
def test_error_of_a_share_is_that_of_the_middle_of_jeffreys_posterior(
    correct: float, rows: float
) -> None:
    middle = stats.beta(correct + 0.5, rows - correct + 0.5).mean()
    error = stats.bernoulli(middle).std() / math.sqrt(rows)
    assert OneShare(correct, rows, 0.3).error() == pytest.approx(error)


@pytest.mark.parametrize(("constant", "null"), [(0.5, 0.0), (0.3, 0.2), (0.6, -0.1), (0.9, 0.05)])
def test_a_detectable_distance_of_a_share_is_shown_in_80_percent(
    constant: float, null: float
) -> None:
    rows, right = 400, np.arange(401)
    limit = constant + null
    seen = OneShare(200, rows, constant).detectable(0.05, null)
    side = 1 if limit < 0.9 else -1
    chances = stats.binom.pmf(right, rows, limit + side * seen)
    shown = sum(
        chance for count, chance in zip(right.tolist(), chances, strict=True)
        if chance > 1e-9 and side * (count / rows - limit) > 0
        and OneShare(count, rows, constant).p(null) < 0.05
    )  # fmt: skip
    assert shown == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_a_limit_at_the_edge_of_all_shares_leaves_half_a_row_of_doubt(edge: float) -> None:
    shares, half = OneShare(5, 20, edge), 0.5 / 21
    wanted = BOTH * math.sqrt(half * (1 - half) / 20)
    beyond = 0.3 if edge else -0.3
    assert shares.detectable(0.05) == pytest.approx(wanted)
    assert shares.detectable(0.05, beyond) == pytest.approx(wanted)


def test_a_detectable_distance_is_from_the_constant_unless_a_limit_is_given() -> None:
    """With half a row of each kind added to the rows that the constant expects."""
    share = (0.3 * 20 + 0.5) / 21
    wanted = BOTH * math.sqrt(share * (1 - share) / 20)
    assert OneShare(5, 20, 0.3).detectable(0.05) == pytest.approx(wanted)
    assert OneShare(5, 20, 0.1).detectable(0.05, 0.2) == pytest.approx(wanted)
    assert PairedShares(20, 12, 120).detectable(0.05) == mcnemar_detectable(120, 33 / 122, 0.05)


def test_a_share_cannot_be_below_none_or_above_all() -> None:
    some, none, every = OneShare(5, 20, 0.25), OneShare(0, 20, 0.25), OneShare(20, 20, 0.25)
    assert some.p(-0.25) == some.p(0.75) == some.p(-0.3) == some.p(0.8) == LEAST_P
    assert none.p(-0.25) == every.p(0.75) == 1
    assert none.p(-0.3) == every.p(0.8) == LEAST_P
    assert OneShare(900, 1000, 0.1).p(0) == LEAST_P


@pytest.mark.parametrize(("correct", "null", "end"), [(3, 0.02, 0), (57, -0.02, 1)])
def test_a_share_near_its_edge_needs_rows_until_its_own_interval_leaves_the_limit(
    correct: int, null: float, end: int
) -> None:
    """Near 0 the interval of the share is wider than what is detectable from a limit of 0.01: only
    as many rows as its end asks for would do."""
    rows, constant = 60, 0.0 if end == 0 else 1.0
    shares = OneShare(correct, rows, constant)
    more, reason = shares.needed(null, 0.05, rows)
    assert (more > 0, reason) == (True, "")
    reach = abs(shares.interval(0.05)[end] - shares.value)
    gap, seen = abs(shares.value - null), shares.detectable(0.05, null)
    assert more == math.ceil(rows * (max(reach, seen) / gap) ** 2) - rows
