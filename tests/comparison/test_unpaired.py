"""Claims about metrics of which a side has no scores of examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from harness.comparison.claims import ClaimVerdict, decide
from harness.comparison.measured import Measured
from harness.comparison.unpaired import Figure, Summaries, contrast_of, hits
from harness.suite.claims import parse_claim


def share(right: int, rows: int) -> Measured:
    """A published share with its standard error."""
    value = right / rows
    return Measured("m", "e", value, n=rows, stderr=math.sqrt(value * (1 - value) / (rows - 1)))


def told(line: str, one: list[Measured], other: list[Measured] | float) -> ClaimVerdict:
    claim = parse_claim(line)
    blank = ClaimVerdict(claim, "a", "b", "m", "e", "incomparable")
    return decide([Summaries(claim, blank, one, other)])[0]


COUNTS = ((0, 2), (1, 100), (2, 3), (30, 40), (50, 50), (0, 7))


@pytest.mark.parametrize("confidence", [0.5, 0.6, 0.95, 0.999])
@pytest.mark.parametrize("relation", ["better", "not_worse", "at_least 0.8 of"])
def test_verdict_agrees_with_the_difference_and_its_interval_at_any_confidence(
    relation: str, confidence: float
) -> None:
    """The middle of Agresti and Caffo's interval may lie on the other side of zero."""
    margin = " by 0.1" if relation == "not_worse" else ""
    limit = -0.1 if margin else 0.0
    relation = relation.replace("0.8 of", "80% of")
    line = f"a {relation} b on m{margin} at {confidence} confidence"
    for one, other in itertools.product(COUNTS, repeat=2):
        verdict = told(line, [share(*one)], [share(*other)])
        difference = verdict.difference
        assert difference.low <= difference.value <= difference.high
        outcome = (
            "supported" if difference.low > limit else "refuted" if difference.high < limit
            else "inconclusive"
        )  # fmt: skip
        near = min(abs(difference.low - limit), abs(difference.high - limit)) < 1e-9
        assert near or verdict.verdict == outcome, (one, other)


def test_published_share_is_held_against_a_number_even_where_all_are_right() -> None:
    assert told("a at_least 0.9 on m", [share(50, 50)], 0.9).verdict == "supported"
    assert told("a at_least 0.9 on m", [share(5, 5)], 0.9).verdict == "inconclusive"
    apart = told("a better b on m", [share(50, 50)], [share(0, 50)])
    assert apart.verdict == "supported", "of which both standard errors are 0"


def test_few_runs_of_published_figures_are_few_numbers() -> None:
    """Two null methods, three runs of each: Student's t over runs keeps the level, where a normal
    interval has twice as many false alarms."""
    rng, alarms, runs = np.random.default_rng(0), 0, 400
    for _ in range(runs):
        one, other = (
            [Measured("m", "e", float(value), n=1000, stderr=0.001) for value in rng.normal(size=3)]
            for _ in range(2)
        )
        alarms += told("a better b on m", one, other).verdict != "inconclusive"
    assert alarms / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_figures_with_standard_errors_are_compared_by_their_sum() -> None:
    one, other = (Measured("m", "e", v, stderr=e) for v, e in ((1.0, 0.3), (0.0, 0.4)))
    contrast = contrast_of(Figure.of([one]), Figure.of([other]))
    assert contrast.p(0) == pytest.approx(2 * stats.norm.sf(2.0))
    assert contrast.interval(0.05) == pytest.approx((1 - 0.5 * 1.96, 1 + 0.5 * 1.96), abs=1e-4)
    alone = contrast_of(Figure.of([one]), Figure.of([Measured("m", "e", 0.0)]))
    assert (alone.interval(0.05), alone.p(0)) == (None, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "level"),
    [(1, 1, "checkpoint"), (2, 1, "method"), (1, 2, "method"), (2, 0, "method"),
     (1, 0, "checkpoint")],
)  # fmt: skip
def test_a_claim_is_about_a_method_where_a_side_has_several_runs(
    ours: int, theirs: int, level: str
) -> None:
    runs = [share(10 + i, 40) for i in range(ours)]
    other = [share(20 + i, 40) for i in range(theirs)] or 0.5
    line = "a better b on m" if theirs else "a at_least 0.5 on m"
    assert told(line, runs, other).level == level


@pytest.mark.parametrize("value", [-0.5, 1.5])
def test_what_lies_outside_0_and_1_is_no_share(value: float) -> None:
    assert hits(Measured("m", "e", value, n=10, stderr=0.1)) is None
    assert hits(Measured("m", "e", 0.5, n=1, stderr=0.5)) is None
    assert hits(share(0, 10)) == 0


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_a_share_is_compared_with_a_multiple_of_another(ratio: float) -> None:
    apart = contrast_of(Figure.of([share(12, 30)]), Figure.of([share(9, 40)]), ratio)
    p, q = 13 / 32, 10 / 42
    wanted = math.sqrt(p * (1 - p) / 32 + ratio**2 * q * (1 - q) / 42)
    assert apart.error() == pytest.approx(wanted)
    low, high = apart.interval(0.05) or (0.0, 0.0)
    half = stats.norm.ppf(0.975) * wanted
    assert (low, high) == pytest.approx((p - ratio * q - half, p - ratio * q + half))
