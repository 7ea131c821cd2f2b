"""Differences with their intervals at any confidence: each kind by its own published formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from harness.comparison.contrasts import LEAST_P, Alike, Contrast, Moved, Ranged, Untold, Watched
from harness.comparison.intervals import Spread
from harness.comparison.limits import by_range, limits_of
from harness.suite.claims import parse_claim

ALPHAS = [0.2, 0.05, 0.001]


def moved(count: int = 100, mean: float = 0.3, seeds: int = 0, skewed: bool = False) -> Moved:
    rng = np.random.default_rng(count)
    drawn = rng.exponential(size=count) if skewed else rng.normal(size=count)
    spread = Spread.of(drawn - drawn.mean(), count, [])
    sides = ((0.04, seeds - 1),) if seeds else ()
    return Moved(mean, Spread(spread.whole, spread.clusters, spread.freedom, sides, spread.skew))


def test_a_difference_of_means_has_students_interval_and_no_bound_is_passed() -> None:
    contrast = Moved(0.3, Spread(0.01, 0.01, 99, (), 0.0))
    half = stats.t.ppf(0.975, 99) * 0.1
    assert contrast.interval(0.05) == pytest.approx((0.3 - half, 0.3 + half))
    cut = Moved(0.3, contrast.spread, (0.2, 0.4))
    assert cut.interval(0.05) == (0.2, 0.4)


@pytest.mark.parametrize("seeds", [0, 3])
@pytest.mark.parametrize("skewed", [False, True])
def test_the_detectable_difference_reaches_beyond_the_wider_side(seeds: int, skewed: bool) -> None:
    """Its interval must exclude the limit, in 80% of such experiments, whichever way it goes."""
    contrast = moved(30, seeds=seeds, skewed=skewed)
    low, high = contrast.interval(0.05)
    wider = max(contrast.value - low, high - contrast.value)
    power = contrast.spread.reach(0.4, 1)
    assert contrast.detectable(0.05) == pytest.approx(wider + power)
    assert Watched(contrast, 30).detectable(0.05) > contrast.detectable(0.05)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("count", [20, 500, 4000])
def test_intervals_for_every_look_are_those_of_the_normal_mixture(count: int, alpha: float) -> None:
    """Waudby-Smith et al. (2024), theorem 2.2, with rho from their equation 33 at 500 examples."""
    contrast = Watched(Moved(0.3, Spread(1 / count, 1 / count, count - 1, (), 0.0)), count)
    squared = (-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / 500
    grown = count * squared + 1
    reach = math.sqrt(2 * grown / (count**2 * squared) * math.log(math.sqrt(grown) / alpha))
    reach = max(reach, stats.t.ppf(1 - alpha / 2, count - 1) / math.sqrt(count))
    assert contrast.interval(alpha) == pytest.approx((0.3 - reach, 0.3 + reach))


def test_the_mixture_is_narrowest_where_it_is_said_to_be() -> None:
    def times_wider(count: int) -> float:
        spread = Spread(1 / count, 1 / count, count - 1, (), 0.0)
        low, high = Watched(Moved(0.0, spread), count).interval(0.05)
        return (high - low) * math.sqrt(count)

    assert times_wider(500) < min(times_wider(350), times_wider(700))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("clusters", [3, 12, 400])
def test_no_difference_at_all_is_bounded_as_a_share_of_none_is(clusters: int, alpha: float) -> None:
    """At most so large a share of clusters differ, each by the whole range (Clopper & Pearson)."""
    most = proportion_confint(0, clusters, 2 * (alpha / 2), "beta")[1]
    assert Alike(0.0, clusters, (-2.0, 2.0)).interval(alpha) == pytest.approx((-2 * most, 2 * most))


@pytest.mark.parametrize("span", [math.inf, 2.0])
def test_one_shift_of_every_cluster_has_a_sign_test_and_no_interval(span: float) -> None:
    alike = Alike(0.25, 6, (-span, span))
    assert alike.interval(0.05) is None
    assert "moved alike" in alike.reason
    assert alike.p(0.0) == pytest.approx(2 * 0.5**6)
    assert alike.p(0.25) == 1.0


def test_no_difference_of_a_metric_without_bounds_has_no_interval() -> None:
    unbounded = Alike(0.0, 6)
    assert unbounded.interval(0.05) is None
    assert "on average no example differs" in unbounded.reason
    assert unbounded.p(0.1) == pytest.approx(2 * 0.5**6)


def test_a_difference_beyond_what_can_be_has_the_least_p() -> None:
    assert Alike(0.0, 10, (-1.0, 1.0)).p(0.5) == pytest.approx(2 * 0.5**10)
    assert Alike(0.0, 10, (-1.0, 1.0)).p(0.05) == 1.0
    assert Alike(0.0, 10, (-1.0, 1.0)).p(1.5) == Alike(0.0, 10, (-1.0, 1.0)).p(-1.5) == LEAST_P
    assert Alike(0.25, 400).p(0.0) == LEAST_P


@pytest.mark.parametrize("contrast", [
    moved(), moved(12, seeds=3), moved(9, skewed=True), moved(40, seeds=3, skewed=True),
    Watched(moved(), 100), Watched(moved(9, -0.4, 2, skewed=True), 9),
    Alike(0.0, 7, (-1.0, 1.0)), Alike(0.0, 400, (-2.0, 2.0)),
])  # fmt: skip
@pytest.mark.parametrize("alpha", ALPHAS)
def test_an_interval_holds_the_values_that_are_not_rejected(
    contrast: Contrast, alpha: float
) -> None:
    ends = contrast.interval(alpha)
    assert ends is not None
    for end, out in zip(ends, (-1, 1), strict=True):
        step = 1e-3 * max(abs(end), 0.1) * out
        assert contrast.p(end - step) > alpha > contrast.p(end + step)


def test_what_nobody_can_tell_has_no_interval_and_counts_have_no_test() -> None:
    assert Untold(0.1, "why").interval(0.05) is Untold(0.1, "why").p(0.0) is None
    assert Ranged(0.1, 0.0, 0.2).interval(0.05) == (0.0, 0.2)
    assert Ranged(0.1, 0.0, 0.2).p(5.0) is None


BETTER, NOT_WORSE, EQUALS = "a better b on m", "a not_worse b on m by 1", "a equals b on m within 1"


@pytest.mark.parametrize(
    ("line", "low", "high", "verdict"),
    [
        (BETTER, 0.1, 0.9, "supported"), (BETTER, 0.0, 0.9, "inconclusive"),
        (BETTER, -0.9, 0.0, "refuted"), (BETTER, -0.9, -0.5, "refuted"),
        (BETTER, -0.9, 0.5, "inconclusive"), (BETTER, -0.9, 0.9, "inconclusive"),
        (NOT_WORSE, -1.0, 0.0, "supported"), (NOT_WORSE, -1.5, 0.0, "inconclusive"),
        (NOT_WORSE, -1.5, -1.0, "inconclusive"), (NOT_WORSE, -1.9, -1.5, "refuted"),
        (EQUALS, -1.0, 1.0, "supported"), (EQUALS, -1.5, 1.0, "inconclusive"),
        (EQUALS, 1.2, 1.9, "refuted"), (EQUALS, -1.9, -1.2, "refuted"),
    ],
)  # fmt: skip
def test_a_range_decides_where_all_of_it_lies_on_one_side(
    line: str, low: float, high: float, verdict: str
) -> None:
    def contrast(times: float) -> Ranged:
        assert times == 1.0
        return Ranged((low + high) / 2, low, high)

    claim = parse_claim(line)
    assert by_range(claim, limits_of(claim, 1, contrast)) == verdict


def test_a_range_without_ends_decides_nothing() -> None:
    claim = parse_claim(BETTER)
    assert by_range(claim, limits_of(claim, 1, lambda _: Untold(3.0, "why"))) == "inconclusive"


@pytest.mark.parametrize("seeds", [(), ((1e-4, 3),)])
@pytest.mark.parametrize("gap", [0.02, 0.05])
def test_with_as_many_more_examples_the_gap_is_the_detectable_difference(
    gap: float, seeds: tuple[tuple[float, int], ...]
) -> None:
    """The part of the variance that seeds cause stays, however many examples there are."""
    contrast = Moved(0.3, Spread(0.0016, 0.0016, 10**6, seeds, 0.0))
    more, reason = contrast.needed(0.3 - gap, 0.05, 1000)
    if seeds and gap == 0.02:
        assert (more, reason) == (None, "more examples alone would not do; more seeds would")
        return
    assert more is not None
    left = 0.0016 * 1000 / (1000 + more)
    error, before = math.sqrt(left + contrast.fixed()), contrast.error()
    assert contrast.detectable(0.05) * error / before == pytest.approx(gap, rel=1e-3)


def test_no_more_examples_are_asked_for_where_these_would_do_or_none_would() -> None:
    contrast = Moved(0.3, Spread(0.0016, 0.0016, 10**6, (), 0.0))
    seen = contrast.detectable(0.05)
    assert contrast.needed(0.3 - 1.5 * seen, 0.05, 1000) == (None, "")
    assert "no test set would do" in contrast.needed(0.3 - 0.005 * seen, 0.05, 1000)[1]
    assert contrast.needed(0.3 - 0.02 * seen, 0.05, 1000)[0] == pytest.approx(2499 * 1000, rel=0.01)
    assert Untold(0.3, "why").needed(0.0, 0.05, 1000) == (None, "")


def test_a_skew_that_is_wider_than_every_look_turns_with_the_difference() -> None:
    for skew in (0.5, -0.5):
        spread = Spread(0.01, 0.01, 10**6, (), skew)
        watched, turned = Watched(Moved(0.3, spread), 500), Watched(
            Moved(-0.3, Spread(0.01, 0.01, 10**6, (), -skew)), 500)  # fmt: skip
        assert watched.p(0.0) == pytest.approx(turned.p(0.0))
        low, high = watched.interval(0.05)
        assert (high - 0.3 > 0.3 - low) is (skew > 0)
        wider = max(high - 0.3, 0.3 - low)
        assert watched.detectable(0.05) == pytest.approx(wider + spread.reach(0.4, 1))


@pytest.mark.parametrize(("other", "times"), [(2.0, 0.9), (-2.0, 1.1)])
@pytest.mark.parametrize("variant", [-9.0, 0.5, 9.0])
def test_a_margin_that_is_a_share_widens_the_limit_whatever_the_signs(
    variant: float, other: float, times: float
) -> None:
    def contrast(times: float) -> Ranged:
        return Ranged(variant - times * other, 0.0, 0.0)

    (limit,) = limits_of(parse_claim("a not_worse b on m by 10%"), 1, contrast)
    assert limit.contrast.value == pytest.approx(variant - times * other)
    assert (limit.null, limit.side) == (0.0, 1)
