"""What a judge's scores decide, and what a row says of its difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.comparison.aligned import scores_of
from harness.comparison.contrasts import Ranged
from harness.comparison.intervals import Inference
from harness.comparison.judges import Trust
from harness.comparison.result import Estimate, PoweredRate
from harness.comparison.rows import with_difference
from harness.comparison.share_contrasts import PairedShares
from tests.comparisons import row


@pytest.mark.parametrize(
    ("judged", "even", "credentials", "shown", "low", "doubt"),
    [
        (False, 0.5, "", False, 0.4, ""), (True, 0.5, "", False, None, "is uncalibrated"),
        (True, None, "kappa 0", False, None, "better than chance (kappa 0)"),
        (True, 0.5, "kappa 1", True, None, ""), (True, 0.5, "kappa 1", True, 0.6, ""),
        (True, 0.5, "kappa 1", True, 0.4, "may be one half: 0.7 [0.4, 0.9]"),
        (True, None, "kappa 1", True, 0.4, ""),
    ],
)  # fmt: skip
def test_a_judges_scores_decide_what_its_labels_bear(
    judged: bool, even: float | None, credentials: str, shown: bool, low: float | None, doubt: str
) -> None:
    """Only a win rate can be one half; a judge's grades have an error that no rate tells."""
    both = Estimate(0.7, low, 0.9)
    rate = None if low is None else PoweredRate("a", "b", "e", 9, 20, 0.9, both, both, 0.3)
    made = replace(
        scores_of("ab", {"value": [0.0, 1.0]}),
        judged=judged,
        even=even,
        trust=Trust(credentials, shown, rate),
    )
    assert doubt in made.doubt
    assert bool(made.doubt) is bool(doubt)


@pytest.mark.parametrize(
    ("note", "value", "reason", "told"),
    [
        ("", 0.2, "why", "why"), ("why", 0.2, "why", "why"), ("x", 0.0, "why", "x; why"),
        ("no interval: every example is alike", 0.0, "on average no example differs",
         "no interval: every example is alike"),
        ("no interval: every example is alike", 0.2, "moved alike",
         "no interval: every example is alike; moved alike"),
        ("x", 0.2, "", "x"),
    ],
)  # fmt: skip
def test_a_row_says_once_why_there_is_no_interval(
    note: str, value: float, reason: str, told: str
) -> None:
    bare = row("a", "m", 0.5, note=note)
    made = with_difference(bare, Ranged(value, value - 1, value + 1, reason))
    assert made.note == told
    assert made.difference == Estimate(value, value - 1, value + 1)
    assert (made.p, made.detectable) == (None, None)


def test_a_row_has_the_numbers_of_its_difference_at_95_percent() -> None:
    shares = PairedShares(9, 2, 60)
    made = with_difference(row("a", "m", 0.5), shares)
    assert (made.difference.low, made.difference.high) == pytest.approx(shares.interval(0.05))
    assert made.p == shares.p(0.0)
    assert made.detectable == pytest.approx(shares.detectable(0.05))


@pytest.mark.parametrize("value", [-0.1, 0.0, 0.5, 1.0, 1.1])
def test_an_interval_is_cut_to_what_can_be_where_its_value_can(value: float) -> None:
    inside = 0 <= value <= 1
    cut = Inference(value, value - 2, value + 2, 0.5, None).within(0.0, 1.0)
    assert (cut.low, cut.high) == ((0.0, 1.0) if inside else (value - 2, value + 2))
    half = Inference(value, value - 2, None, 0.5, None)
    assert half.within(0.0, 1.0) is half
