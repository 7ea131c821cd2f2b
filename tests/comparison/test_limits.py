"""What a claim says as limits of a contrast, and how these decide it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from harness.comparison.contrasts import Contrast, Ranged
from harness.comparison.limits import Limit, by_range, limits_of, p_of
from harness.suite.claims import parse_claim


@dataclass(frozen=True)
class At(Contrast):
    """A contrast whose every p is known."""

    value: float
    level: float | None = 0.3

    def interval(self, alpha: float) -> tuple[float, float] | None:
        return None

    def p(self, null: float) -> float | None:
        return self.level


@pytest.mark.parametrize(
    ("words", "up", "limits"),
    [
        ("better b on m by 0.2", 1, [(0.2, 1)]), ("better b on m by 0.2", -1, [(-0.2, -1)]),
        ("worse b on m by 0.2", 1, [(-0.2, -1)]), ("worse b on m by 0.2", -1, [(0.2, 1)]),
        ("not_worse b on m by 0.2", 1, [(-0.2, 1)]), ("not_worse b on m by 0.2", -1, [(0.2, -1)]),
        ("equals b on m within 0.2", 1, [(-0.2, 1), (0.2, -1)]),
        ("equals b on m within 0.2", -1, [(-0.2, 1), (0.2, -1)]),
        ("at_most b on m", 1, [(0.0, -1)]), ("at_most b on m", -1, [(0.0, -1)]),
        ("at_least b on m", 1, [(0.0, 1)]), ("at_least b on m", -1, [(0.0, 1)]),
    ],
)  # fmt: skip
def test_each_relation_says_on_which_side_of_which_value_the_difference_lies(
    words: str, up: int, limits: list[tuple[float, int]]
) -> None:
    made = limits_of(parse_claim(f"a {words}"), up, lambda times: At(times))
    assert [(limit.null, limit.side) for limit in made] == limits
    assert [limit.contrast.value for limit in made] == [1.0] * len(limits), (
        "of the plain difference"
    )


@pytest.mark.parametrize(
    ("words", "up", "other", "limits"),
    [
        ("better b on m by 20%", 1, 3.0, [(1.2, 1)]),
        ("better b on m by 20%", -1, 3.0, [(0.8, -1)]),
        ("better b on m by 20%", 1, -3.0, [(0.8, 1)]),
        ("worse b on m by 20%", 1, 3.0, [(0.8, -1)]),
        ("not_worse b on m by 20%", 1, 3.0, [(0.8, 1)]),
        ("not_worse b on m by 20%", -1, 3.0, [(1.2, -1)]),
        ("not_worse b on m by 20%", 1, -3.0, [(1.2, 1)]),
        ("equals b on m within 20%", 1, 3.0, [(0.8, 1), (1.2, -1)]),
        ("equals b on m within 20%", 1, -3.0, [(1.2, 1), (0.8, -1)]),
        ("at_most 60% of b on m", 1, 3.0, [(0.6, -1)]),
        ("at_least 60% of b on m", -1, -3.0, [(0.6, 1)]),
    ],
)  # fmt: skip
def test_a_share_of_the_others_value_is_a_limit_on_the_value_less_so_many_times_the_others(
    words: str, up: int, other: float, limits: list[tuple[float, int]]
) -> None:
    """Not worse by 20% than 3: above 0.8 times 3. Than -3, of which 20% less is 1.2 times -3."""
    made = limits_of(parse_claim(f"a {words}"), up, lambda times: At(7.0 - times * other))
    shares = [((7.0 - limit.contrast.value) / other, limit.side) for limit in made]
    assert [share for share, _ in shares] == pytest.approx([share for share, _ in limits])
    assert [side for _, side in shares] == [side for _, side in limits]
    assert {limit.null for limit in made} == {0.0}


@pytest.mark.parametrize(("value", "side", "gap"), [(0.5, 1, 0.3), (0.5, -1, -0.3), (0.1, 1, -0.1),
                                                    (0.1, -1, 0.1), (0.2, 1, 0.0)])  # fmt: skip
def test_the_gap_is_how_far_the_claimed_side_is_reached(
    value: float, side: int, gap: float
) -> None:
    assert Limit(At(value), 0.2, side).gap == pytest.approx(gap)


def test_a_claim_with_two_limits_is_as_sure_as_the_weaker_of_those_it_passes() -> None:
    """To support it, both must be passed; to refute it, missing one is enough."""
    passed = [Limit(At(0.5, 0.01), 0.0, 1), Limit(At(0.5, 0.2), 1.0, -1)]
    assert p_of(passed) == p_of(passed[::-1]) == 0.2
    missed = [Limit(At(1.5, 0.001), 0.0, 1), Limit(At(1.5, 0.04), 1.0, -1)]
    assert p_of(missed) == p_of(missed[::-1]) == 0.04
    both = [Limit(At(0.5, 0.3), 0.7, 1), Limit(At(0.5, 0.1), 0.2, -1)]
    assert p_of(both) == p_of(both[::-1]) == 0.1
    assert p_of([Limit(At(0.5, 0.3), 0.0, 1)]) == 0.3
    for untold in ([At(0.5, None), At(0.5, 0.2)], [At(0.5, 0.2), At(0.5, None)]):
        assert p_of([Limit(contrast, 0.0, 1) for contrast in untold]) is None


@pytest.mark.parametrize(
    ("words", "low", "high", "verdict"),
    [
        ("worse b on m", -0.9, -0.1, "supported"), ("worse b on m", -0.9, 0.0, "inconclusive"),
        ("worse b on m", 0.0, 0.9, "refuted"), ("worse b on m", -0.1, 0.9, "inconclusive"),
        ("at_most b on m", -0.9, 0.0, "supported"), ("at_most b on m", 0.0, 0.9, "inconclusive"),
        ("at_most b on m", 0.1, 0.9, "refuted"), ("at_least b on m", 0.0, 0.9, "supported"),
        ("equals b on m within 1", -1.0, 1.0, "supported"),
        ("equals b on m within 1", 1.0, 2.0, "inconclusive"),
        ("equals b on m within 1", -9.0, 9.0, "inconclusive"),
    ],
)  # fmt: skip
def test_only_better_and_worse_are_strict_about_a_range_that_ends_on_the_limit(
    words: str, low: float, high: float, verdict: str
) -> None:
    claim = parse_claim(f"a {words}")
    limits = limits_of(claim, 1, lambda _: Ranged((low + high) / 2, low, high))
    assert by_range(claim, limits) == verdict


def test_a_range_that_is_open_at_one_end_may_still_decide() -> None:
    claim = parse_claim("a better b on m")
    for low, high, verdict in ((0.1, math.inf, "supported"), (-math.inf, -0.1, "refuted"),
                               (-math.inf, 0.1, "inconclusive")):  # fmt: skip
        limits = limits_of(claim, 1, lambda _, ends=(low, high): Ranged(0.0, *ends))
        assert by_range(claim, limits) == verdict
