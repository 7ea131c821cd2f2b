"""Verdicts after the adjustment: the borders, and figures that decide nothing."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from harness.comparison.intervals import CONFIDENCE
from harness.comparison.verdicts import (
    UNCALIBRATED,
    UNTRUSTED,
    adjusted,
    benjamini_hochberg,
    holm,
)
from tests.comparisons import row

JUDGED = {"judged": True}


@pytest.mark.parametrize("power", [1, 4])
def test_adjusted_values_are_those_of_statsmodels(power: int) -> None:
    """And none is above 1."""
    values = np.random.default_rng(power).random(9) ** power
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])
    assert benjamini_hochberg(values) == pytest.approx(
        multipletests(values, method="fdr_bh")[1], abs=1e-12
    )


def test_no_values_are_adjusted_to_none() -> None:
    assert holm([]) == benjamini_hochberg([]) == []
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm(np.array([0.01])) == [0.01]


@pytest.mark.parametrize(("credentials", "verdict"), [("", UNCALIBRATED), ("kappa 0", UNTRUSTED)])
def test_a_judge_that_is_not_trusted_sees_a_difference_below_the_level_alone(
    credentials: str, verdict: str
) -> None:
    level = 1 - CONFIDENCE
    for p, told in ((level, "no difference shown"), (level * 0.99, verdict)):
        (one,) = adjusted([row("a", "m", 0.5, p=p, credentials=credentials, **JUDGED)])
        assert one.verdict == told
        assert one.p_holm == p


def test_slices_and_judges_are_families_of_their_own() -> None:
    """Of each of the four kinds there are as many rows as its number says."""
    kinds = [
        dict(changes) for changes in
        ([{}] * 1 + [{"slice": "part"}] * 2 + [JUDGED] * 3 + [{"slice": "part", **JUDGED}] * 4)
    ]  # fmt: skip
    rows = adjusted([row("a", "m", 0.5, p=0.001, **changes) for changes in kinds])
    assert [one.p_holm for one in rows] == pytest.approx(
        [0.001] + [0.002] * 2 + [0.003] * 3 + [0.004] * 4
    )
    trusted = adjusted([row("a", "m", 0.5, p=0.001, trusted=True, **JUDGED)] * 2)
    assert [one.verdict for one in trusted] == ["better"] * 2
    assert [one.p_holm for one in trusted] == pytest.approx([0.002] * 2)


@pytest.mark.parametrize(
    ("up", "value", "verdict"),
    [(True, 0.5, "better"), (True, 0.05, "worse"), (False, 0.5, "worse"), (False, 0.05, "better")],
)
def test_a_difference_is_better_where_it_goes_the_better_way(
    up: bool, value: float, verdict: str
) -> None:
    (one,) = adjusted([row("a", "m", value, p=0.001, higher_is_better=up)])
    assert one.verdict == verdict
    assert one.note == ""


def test_what_the_family_undoes_is_told_and_nothing_else_is() -> None:
    rows = adjusted([row("a", "m", 0.5, p=p) for p in (0.03, 0.2, 0.001)])
    assert [one.verdict for one in rows] == ["no difference shown"] * 2 + ["better"]
    assert rows[0].note == "p 0.03 by itself, 0.06 after Holm's adjustment over 3 comparisons"
    assert rows[1].note == rows[2].note == ""
