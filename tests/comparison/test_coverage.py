"""A small, fixed part of the simulation in tests/benchmarks/coverage.py; its table is in docs/."""

from __future__ import annotations

import pytest

from tests.benchmarks.coverage import Case, clustered, means, rare, rates, seeded, shares

RUNS = 250
_NOISE = 0.041
"""Three standard errors of 5% in so many runs."""


@pytest.mark.parametrize(
    "case",
    [
        *(shares(n, 0.5) for n in (5, 20)),
        rare(50, 0.02),
        *(means(n, tail) for n in (5, 12) for tail in ("normal", "heavy tails (t, 3 df)")),
        means(20, "skewed (exponential)"),
        clustered(5),
        clustered(10, binary=True),
        *(seeded(n, *spread, n=30) for n in (2, 3, 5) for spread in ((0.1, 0.0), (0.3, 0.3))),
        seeded(3, 0.0, 0.3, n=30),
    ],
    ids=lambda case: f"{case.name}, n {case.n}",
)
def test_intervals_hold_the_truth_and_tests_cry_no_wolf(case: Case) -> None:
    estimate, difference, alarms, told, _ = rates(case, RUNS)
    assert estimate >= 0.95 - _NOISE
    assert difference >= 0.95 - _NOISE
    assert alarms <= 0.05 + _NOISE
    assert told == 1.0


def test_seeds_that_do_not_differ_cost_little_where_examples_do() -> None:
    """Width over that of whoever knows every variance."""
    assert rates(seeded(3, 0.0, 0.5), 150)[4] < 1.25
    assert rates(seeded(5, 0.0, 0.5), 150)[4] < 1.1
