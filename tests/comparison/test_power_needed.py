"""As many examples as plans and verdicts ask for show what they are asked for, 80% of the time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.comparison.power import (
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
