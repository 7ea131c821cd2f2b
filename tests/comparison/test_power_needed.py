"""As many examples as plans and verdicts ask for show what they are asked for, 80% of the time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.comparison import power
from harness.comparison.contrasts import Moved
from harness.comparison.intervals import Spread
from harness.comparison.limits import Limit, detectable
from harness.comparison.power import (
    equal_power,
    examples_needed,
    mcnemar_detectable,
    mcnemar_needed,
    mcnemar_power,
    t_power,
)
from harness.comparison.share_contrasts import PairedShares

CASES = ((0.3, 0.2), (0.2, 0.07), (0.1, 0.03), (0.05, 0.04), (0.5, 0.3), (0.1, 0.1), (0.9, 0.2))


@pytest.mark.parametrize(("changed", "gain"), CASES)
def test_as_many_rows_as_a_plan_asks_for_show_a_gain_in_80_percent(
    changed: float, gain: float
) -> None:
    """Within 3 points. A normal approximation gives 69% at 36 rows."""
    rows = mcnemar_needed(changed, gain, 0.05)
    assert mcnemar_power(rows, changed, gain, 0.05) == pytest.approx(0.8, abs=0.03)
    seen = mcnemar_detectable(rows, changed, 0.05)
    assert mcnemar_power(rows, max(changed, seen), seen, 0.05) == pytest.approx(0.8, abs=1e-6)
    assert seen <= gain


@pytest.mark.parametrize("gap", [0.15, 0.4, 0.7, 1.5])
def test_as_many_examples_as_a_plan_asks_for_show_a_mean_in_80_percent(gap: float) -> None:
    count = examples_needed(1.0, gap, 0.0, 0.05, both=False)
    assert 0.8 <= t_power(gap, 1 / math.sqrt(count), count - 1, 0.05) < 0.83 + 0.05 * (gap > 1)


def test_a_gain_beyond_the_rows_that_changed_is_seen_if_more_rows_change() -> None:
    """Of 20 rows one changed: a true gain of 37% changes at least as many."""
    seen = mcnemar_detectable(20, 0.05, 0.05)
    assert mcnemar_power(20, seen, seen, 0.05) == pytest.approx(0.8)
    assert seen > 0.3


def test_as_many_more_rows_as_an_inconclusive_claim_asks_for_decide_it() -> None:
    """Simulated: rows are drawn anew from the shares that were seen."""
    shares, rng, runs = PairedShares(9, 4, 60), np.random.default_rng(0), 2000
    more, reason = shares.needed(0.0, 0.05, 60)
    assert (more is not None, reason) == (True, "")
    counts = rng.multinomial(60 + more, [9 / 60, 4 / 60, 47 / 60], runs)
    shown = np.mean([
        up > down and PairedShares(int(up), int(down), 60 + more).p(0) < 0.05
        for up, down, _ in counts
    ])  # fmt: skip
    assert shown == pytest.approx(0.8, abs=0.03 + 2 * math.sqrt(0.16 / runs))


def test_a_gain_whose_p_is_the_level_itself_is_not_shown() -> None:
    """All of six rows change, and all for the better: p is 1/32."""
    assert mcnemar_power(6, 1.0, 1.0, 1 / 32) == 0
    assert mcnemar_power(6, 1.0, 1.0, 1 / 32 + 1e-9) == pytest.approx(1)
    assert mcnemar_power(5, 1.0, 1.0, 1 / 32 + 1e-9) == 0


@pytest.mark.parametrize("changed", [0.2, 1.0])
@pytest.mark.parametrize("gain", [1.0, 1.7])
def test_a_gain_of_all_rows_needs_six_of_them(changed: float, gain: float) -> None:
    assert mcnemar_needed(changed, gain, 0.05) == 6


@pytest.mark.parametrize("start", range(2, 20))
def test_the_least_number_is_found_wherever_it_lies_above_half_of_where_one_begins(
    start: int,
) -> None:
    for least in range(1, 60):
        found = power._least(lambda number, least=least: number >= least, start)
        assert found == max(least, start // 2 + 1)


def test_without_an_error_every_gap_is_seen_and_none_is_not() -> None:
    assert t_power(1e-9, 0.0, 9, 0.05) == 1
    assert t_power(0.0, 0.0, 9, 0.05) == t_power(-1.0, 0.0, 9, 0.05) == 0


@pytest.mark.parametrize("gap", [-0.2, 0.0, 0.3])
@pytest.mark.parametrize("freedom", [9_000, 11_000, 1e6])
def test_many_examples_have_the_power_of_the_normal_curve(gap: float, freedom: float) -> None:
    wanted = stats.norm.cdf(gap / 0.1 - stats.norm.isf(0.025))
    assert t_power(gap, 0.1, freedom, 0.05) == pytest.approx(wanted, abs=1e-3)


def test_both_tests_are_never_less_than_unlikely_to_be_passed() -> None:
    """A margin within the error: each of the two tests may be passed, and never both."""
    assert equal_power(0.1, 0.0, 0.2, 0.05) == 0
    assert equal_power(0.1, 0.5, 0.2, 0.05) == 0
    assert equal_power(1.0, 0.3, 0.1, 0.05) == equal_power(1.0, -0.3, 0.1, 0.05)
    z = stats.norm.isf(0.025)
    wanted = stats.norm.cdf(7 - z) + stats.norm.cdf(13 - z) - 1
    assert equal_power(1.0, 0.3, 0.1, 0.05) == pytest.approx(wanted)


@pytest.mark.parametrize(("both", "beta"), [(False, 0.2), (True, 0.1)])
def test_beside_what_seeds_cause_the_examples_may_cause_the_rest(both: bool, beta: float) -> None:
    """Of two limits each must be shown 90% of the time, so that both are 80% of it."""
    allowed = (0.05 / (stats.norm.isf(0.025) + stats.norm.isf(beta))) ** 2
    count = examples_needed(0.5, 0.05, 0.0001, 0.05, both=both)
    assert 0.5 / count + 0.0001 <= allowed < 0.5 / (count - 1) + 0.0001
    assert examples_needed(0.5, 0.05, allowed * 0.999, 0.05, both=both) > 10 * count
    assert examples_needed(0.5, 0.05, allowed * 1.001, 0.05, both=both) is None


@pytest.mark.parametrize(("both", "beta"), [(False, 0.2), (True, 0.1)])
def test_a_plan_sees_within_two_limits_what_a_verdict_sees(both: bool, beta: float) -> None:
    """Of many examples: as far as the normal curve says, and as far as the verdict's contrast."""
    contrast = Moved(0.0, Spread(0.01, 0.01, 9_999, (), 0.0))
    limits = [Limit(contrast, 1.0, -1), Limit(contrast, -1.0, 1)][: 1 + both]
    seen = power.detectable(0.1, 9_999, 0.05, both=both)
    assert seen == pytest.approx(0.1 * (stats.norm.isf(0.025) + stats.norm.isf(beta)), rel=1e-3)
    assert seen == pytest.approx(detectable(limits, 0.05), rel=1e-3)


def test_beyond_twenty_thousand_rows_the_normal_curve_serves() -> None:
    z = stats.norm.isf(0.025) + stats.norm.ppf(0.8)
    approximate = z * math.sqrt(0.2 / 20_001)
    assert mcnemar_detectable(20_001, 0.2, 0.05) == pytest.approx(approximate, rel=1e-9)
    exact = mcnemar_detectable(20_000, 0.2, 0.05)
    assert exact == pytest.approx(approximate, rel=0.02)
    assert exact != pytest.approx(z * math.sqrt(0.2 / 20_000), rel=1e-6)
