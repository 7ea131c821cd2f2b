"""How many more examples would decide, what could have been seen, and the borders of both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from scipy import stats

from harness.comparison.contrasts import LEAST_P, NEAR, Alike, Contrast, Moved, Untold, Watched
from harness.comparison.intervals import Spread

BOTH = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)


@dataclass(frozen=True)
class Known(Contrast):
    """A contrast whose every number is told: what follows from them is the base class's."""

    value: float = 1.0
    spread: float | None = 1.0
    seeds: float = 0.0
    seen: float | None = 2.0
    ends: tuple[float, float] | None = (0.5, 1.5)

    def interval(self, alpha: float) -> tuple[float, float] | None:
        return self.ends

    def p(self, null: float) -> float | None:
        return None

    def error(self) -> float | None:
        return self.spread

    def fixed(self) -> float:
        return self.seeds

    def detectable(self, alpha: float, null: float = 0.0) -> float | None:
        return self.seen


NO_SET, SEEDS = (
    "the difference lies so close to the limit that no test set would do",
    "more examples alone would not do; more seeds would",
)


@pytest.mark.parametrize(
    ("contrast", "null", "more"),
    [
        # The error falls with the root of the number: to half of it with four times as many.
        (Known(), 0.0, (75, "")), (Known(value=-1.0, ends=(-1.5, -0.5)), 0.0, (75, "")),
        (Known(seen=1.0), 0.0, (None, "")), (Known(seen=0.5), 0.0, (None, "")),
        (Known(seen=1.01), 0.0, (1, "")),
        # Whichever is the longer way: what is detectable, or the interval's end towards the limit.
        (Known(ends=(-2.0, 1.1)), 0.0, (200, "")), (Known(ends=(0.9, 9.0)), 0.0, (75, "")),
        (Known(ends=(-2.0, 1.1)), 2.0, (75, "")), (Known(ends=(0.9, 4.0)), 2.0, (200, "")),
        (Known(ends=None), 0.0, (75, "")),
        # Closer to the limit than a hundredth of what is detectable.
        (Known(value=2.0 * NEAR), 0.0, (249_975, "")), (Known(value=1.0), 1.0, (None, NO_SET)),
        (Known(value=1.9 * NEAR), 0.0, (None, NO_SET)),
        # Seeds: (1 - 1/8) of the variance must fall to (1/4 - 1/8).
        (Known(seeds=0.125), 0.0, (150, "")), (Known(seeds=0.25), 0.0, (None, SEEDS)),
        (Known(seeds=0.3), 0.0, (None, SEEDS)),
        (Known(spread=None), 0.0, (None, "")), (Known(spread=0.0), 0.0, (None, "")),
        (Known(seen=None), 0.0, (None, "")),
    ],
)  # fmt: skip
def test_more_examples_shrink_what_they_cause_until_the_gap_is_seen(
    contrast: Known, null: float, more: tuple[int | None, str]
) -> None:
    """Of 25 examples; most numbers are halves and quarters, so that they are exact."""
    assert contrast.needed(null, 0.05, 25) == more


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
def test_what_is_detectable_with_a_known_error_is_by_the_normal_curve(alpha: float) -> None:
    class Plain(Known):
        detectable = Contrast.detectable

    wanted = stats.norm.isf(alpha / 2) + stats.norm.ppf(0.8)
    assert Plain(spread=3.0).detectable(alpha) == pytest.approx(3 * wanted)
    assert Plain(spread=None).detectable(alpha) is None
    assert Untold(0.0, "why").detectable(alpha) is None
    assert Untold(0.0, "why").fixed() == 0


@pytest.mark.parametrize("alpha", [0.2, 0.05])
@pytest.mark.parametrize("freedom", [4, 60])
def test_what_a_mean_can_show_is_by_students_curve(freedom: int, alpha: float) -> None:
    spread = Spread(0.04, 0.04, freedom, (), 0.0)
    t = stats.t(freedom)
    assert Moved(0.3, spread).detectable(alpha) == pytest.approx(
        0.2 * (t.isf(alpha / 2) + t.ppf(0.8))
    )
    watched = Watched(Moved(0.3, spread), freedom + 1)
    low, high = watched.interval(alpha)
    assert watched.detectable(alpha) == pytest.approx((high - low) / 2 + 0.2 * t.ppf(0.8))


def test_errors_of_many_looks_are_those_of_one() -> None:
    spread = Spread(0.04, 0.03, 20, ((0.02, 2), (0.01, 4)), 0.0)
    once = Moved(0.3, spread)
    watched = Watched(once, 21)
    assert once.fixed() == watched.fixed() == pytest.approx(0.03)
    assert once.error() == watched.error() == pytest.approx(math.sqrt(0.06))
    assert watched.value == 0.3


@pytest.mark.parametrize("value", [-0.2, 0.0, 0.2])
def test_no_look_is_given_an_interval_beyond_what_can_be(value: float) -> None:
    watched = Watched(Moved(value, Spread(0.04, 0.04, 20, (), 0.0), (-0.25, 0.3)), 21)
    assert watched.interval(0.05) == (-0.25, 0.3)
    assert watched.p(value) == 1.0


@pytest.mark.parametrize("clusters", [1, 2, 5, 10, 199, 400])
def test_the_sign_test_is_that_of_as_many_tosses_of_a_coin(clusters: int) -> None:
    exact = stats.binomtest(clusters, clusters).pvalue
    for contrast in (Alike(0.25, clusters), Alike(-0.25, clusters, (-2.0, 2.0))):
        assert contrast.p(0.0) == pytest.approx(max(exact, LEAST_P))
    assert Alike(0.0, clusters).p(0.1) == pytest.approx(max(exact, LEAST_P))


@pytest.mark.parametrize("span", [1.0, 2.5])
@pytest.mark.parametrize("null", [-0.4, 0.01, 0.7])
def test_where_none_differs_a_mean_of_that_size_is_as_likely_as_to_miss_all_that_differ(
    span: float, null: float
) -> None:
    """Of a share |null| / span that differs by the whole span, six examples hold none."""
    missed = stats.binom.pmf(0, 6, abs(null) / span)
    assert Alike(0.0, 6, (-span, span)).p(null) == pytest.approx(min(1, 2 * missed))
    assert Alike(0.0, 6, (-span, span)).reason == "on average no example differs"
