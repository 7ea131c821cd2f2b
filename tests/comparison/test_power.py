"""The power that plans print is that of the tests, by other packages and by counting."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from harness.comparison.aligned import Runs, scores_of
from harness.comparison.differences import contrast_of
from harness.comparison.groups import Group
from harness.comparison.planned_power import _expected_gap, _spread
from harness.comparison.power import (
    detectable,
    equal_power,
    examples_needed,
    mcnemar_detectable,
    mcnemar_power,
    t_power,
)
from harness.planning.claims import PlannedClaim
from harness.suite.claims import parse_claim


@pytest.mark.parametrize(("gap", "n", "alpha"), [(0.3, 40, 0.05), (0.1, 400, 0.01), (1.0, 6, 0.1)])
def test_power_of_t_is_that_of_statsmodels(gap: float, n: int, alpha: float) -> None:
    """Of a one-sided test at half the level, as a claim has a direction."""
    wanted = TTestPower().power(gap, n, alpha / 2, alternative="larger")
    assert t_power(gap, 1 / math.sqrt(n), n - 1, alpha) == pytest.approx(wanted, abs=1e-6)
    error = 1 / math.sqrt(n)
    assert t_power(detectable(error, n - 1, alpha), error, n - 1, alpha) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("rows", "changed", "gain"), [(9, 0.6, 0.5), (14, 0.4, 0.3), (6, 1.0, 0.9)]
)
def test_power_of_mcnemar_is_that_of_every_outcome_counted(
    rows: int, changed: float, gain: float
) -> None:
    won, lost = (changed + gain) / 2, (changed - gain) / 2
    total = 0.0
    for up, down in itertools.product(range(rows + 1), repeat=2):
        if up + down <= rows and up > down and stats.binomtest(down, up + down).pvalue < 0.05:
            kept = rows - up - down
            total += stats.multinomial.pmf([up, down, kept], rows, [won, lost, 1 - changed])
    assert mcnemar_power(rows, changed, gain, 0.05) == pytest.approx(total, abs=1e-9)


def test_smallest_gain_that_mcnemar_shows_has_the_power_that_it_says() -> None:
    seen = mcnemar_detectable(320, 0.2, 0.05)
    assert mcnemar_power(320, 0.2, seen, 0.05) == pytest.approx(0.8)
    assert mcnemar_detectable(5, 0.3, 0.05) is None
    assert mcnemar_detectable(40_000, 0.2, 0.05) == pytest.approx(
        mcnemar_detectable(19_999, 0.2, 0.05) / math.sqrt(2), rel=0.02
    )


@pytest.mark.parametrize("both", [False, True])
def test_as_many_examples_as_are_needed_have_the_power(both: bool) -> None:
    n = examples_needed(0.5, 0.05, 0.0, 0.05, both=both)
    error = math.sqrt(0.5 / n)
    power = equal_power(0.05, 0.0, error, 0.05) if both else t_power(0.05, error, n - 1, 0.05)
    assert power == pytest.approx(0.8, abs=0.003)


def test_no_number_of_examples_makes_up_for_seeds_that_differ() -> None:
    assert examples_needed(0.5, 0.05, 0.01, 0.05, both=False) is None
    assert examples_needed(0.5, 0.0, 0.0, 0.05, both=False) is None
    more = examples_needed(0.5, 0.05, 0.0001, 0.05, both=False)
    assert more > examples_needed(0.5, 0.05, 0.0, 0.05, both=False)


def test_two_examples_are_the_fewest_that_vary() -> None:
    assert examples_needed(1e-9, 0.5, 0.0, 0.05, both=False) == 2


def test_power_of_two_one_sided_tests_is_what_happens() -> None:
    rng = np.random.default_rng(0)
    values = 0.02 + 0.03 * rng.normal(size=20_000)
    inside = np.abs(values) < 0.1 - 1.959964 * 0.03
    assert equal_power(0.1, 0.02, 0.03, 0.05) == pytest.approx(inside.mean(), abs=0.01)


def test_share_of_a_negative_value_leaves_room_for_what_is_not_worse() -> None:
    """Not worse by more than 10% of a mean of -2: there is room of 0.2, if nothing changes."""
    claim = PlannedClaim(parse_claim("a not_worse b on m by 10%"), "claims[0]", "a", "b", "m", "")
    runs = {"b": {0: scores_of(["0", "1"], {"value": [-1.0, -3.0]})}}
    assert _expected_gap(claim, runs) == pytest.approx(0.2)


def _sides(clusters: list[str] | None, gained: int) -> dict[str, Runs]:
    """Of 16 examples the first `gained` are right by a alone, and the others by none."""
    ids = [str(number) for number in range(16)]
    right = np.asarray([float(number < gained) for number in range(16)])
    return {
        name: {0: scores_of(ids, {"value": values}, clusters=clusters, bounds=(0.0, 1.0))}
        for name, values in (("a", right), ("b", np.zeros(16)))
    }


@pytest.mark.parametrize("by", [1, 2, 4])
@pytest.mark.parametrize("gained", [4, 8, 16])
def test_spread_of_a_plan_is_that_of_the_comparison(by: int, gained: int) -> None:
    """Also where whole clusters of examples moved one way: then each of them counts once, and not
    each example of it."""
    claim = PlannedClaim(parse_claim("a better b on m by 0.1"), "claims[0]", "a", "b", "m", "")
    runs = _sides([str(number // by) for number in range(16)], gained)
    spread = _spread(claim, "a", "b", runs)
    contrast = contrast_of(Group.of(runs["a"]), Group.of(runs["b"]))
    error = contrast.error()
    assert spread is not None
    assert error is not None
    assert math.sqrt(spread.variance / 16) == pytest.approx(error)
    assert (spread.changed is None) == (by > 1)
