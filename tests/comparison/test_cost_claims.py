"""Claims about costs: what is compared, and how far apart two measured costs must lie."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from harness.comparison import VariantResult
from harness.comparison.claims import ClaimVerdict, decide
from harness.comparison.cost_claims import cost_question
from harness.comparison.result import Conditions
from harness.suite.claims import parse_claim
from tests.comparison.test_costs import BUSY, TWO, trained
from tests.comparisons import variant


def decided(
    key: str, one: VariantResult, other: VariantResult | float, line: str = "", failed: str = ""
) -> ClaimVerdict:
    """By default: `one` costs less."""
    claim = parse_claim(line or f"a better b on {key}")
    return decide([cost_question(claim, key, one, other, failed)])[0]


@pytest.mark.parametrize(("ours", "verdict"), [(999.0, "supported"), (1001.0, "refuted")])
def test_what_is_counted_is_told_apart_by_one(ours: float, verdict: str) -> None:
    one, other = (trained(name, 10, cost={"trainable_parameters": amount})
                  for name, amount in (("a", ours), ("b", 1000.0)))  # fmt: skip
    found = decided("trainable_parameters", one, other)
    assert (found.verdict, found.reason) == (verdict, "")
    assert (found.estimate, found.reference) == (ours, 1000.0)
    assert found.difference is not None
    assert found.difference.low == found.difference.high == ours - 1000


@pytest.mark.parametrize(
    ("seconds", "seeds", "verdict"),
    [(45.0, 1, "supported"), (55.0, 1, "inconclusive"), (75.0, 3, "supported"),
     (85.0, 3, "inconclusive"), (130.0, 3, "refuted"), (100.0, 1, "inconclusive")],
)  # fmt: skip
def test_times_are_told_apart_beyond_their_noise(seconds: float, seeds: int, verdict: str) -> None:
    """Of one run, times differ from twice on; of several, from 1.25 times on."""
    one, other = (replace(trained(name, time, 0.0), seeds=tuple(range(seeds)))
                  for name, time in (("a", seconds), ("b", 100.0)))  # fmt: skip
    found = decided("train_seconds", one, other)
    assert found.verdict == verdict
    times = "2 times" if seeds == 1 else "1.25 times"
    assert f"counts as greater only from {times} on" in found.reason


def test_a_range_over_seeds_is_part_of_a_cost() -> None:
    one = replace(trained("a", 10, 0.5), seeds=(0, 1))
    noise = math.sqrt(1.25)
    question = cost_question(parse_claim("a better b on train_seconds"), "train_seconds", one, 99.0)
    assert question.candidate is not None
    assert question.reference is not None
    amount = question.candidate
    assert (amount.value, amount.seeds) == (10, 2)
    assert (amount.low, amount.high) == pytest.approx((5 / noise, 15 * noise))
    assert (question.reference.low, question.reference.high) == (99, 99)


def test_peaks_of_memory_differ_from_a_fiftieth_on() -> None:
    one, near, far = (trained(name, 10, cost={"peak_device_bytes": amount})
                      for name, amount in (("a", 100.0), ("b", 101.9), ("c", 102.1)))  # fmt: skip
    assert decided("peak_device_bytes", one, near).verdict == "inconclusive"
    found = decided("peak_device_bytes", one, far)
    assert (found.verdict, found.reason) == ("supported", "")


@pytest.mark.parametrize("other", [BUSY, Conditions("a processor", 1), Conditions("a GPU", 2)])
@pytest.mark.parametrize("key", ["train_seconds", "joules", "mfu", "tokens_per_second"])
def test_times_under_other_conditions_are_not_compared(key: str, other: Conditions) -> None:
    cost = {"joules": 9.0, "mfu": 0.2, "tokens_per_second": 10.0}
    which = "answering" if key == "tokens_per_second" else "timed"
    quiet: dict[str, Any] = {"timed": (TWO,), "answering": (TWO,)}
    one = replace(trained("a", 1, cost=cost), **quiet)
    two = replace(trained("b", 90, cost=cost), **quiet | {which: (other,)})
    found = decided(key, one, two)
    assert found.verdict == "incomparable"
    assert "measured beside other work" in found.reason
    # Whatever the machine did, what is counted is the same, and a number has no conditions.
    assert decided("tokens", one, two).verdict != "incomparable"
    assert decided(key, one, 5.0).verdict != "incomparable"


def test_a_cost_that_was_not_measured_is_named_with_its_variants() -> None:
    one, other = trained("a", 10), trained("b", 10)
    found = decided("joules", one, other)
    assert found.verdict == "incomparable"
    assert found.reason == "the training energy of a and b was not measured"
    found = decided("joules", trained("a", 10, cost={"joules": 3.0}), other)
    assert found.reason == "the training energy of b was not measured"
    endless = trained("a", 10, cost={"joules": math.inf})
    assert "of a and b" in decided("joules", endless, other).reason


def test_an_untrained_model_costs_nothing_to_train_and_has_its_parameters() -> None:
    base = variant("base")
    base = replace(base, cost={k: v for k, v in base.cost.items() if "train" not in k})
    found = decided("trainable_parameters", base, trained("a", 10))
    assert (found.verdict, found.estimate) == ("supported", 0.0)
    for key in ("parameters", "mfu"):
        assert "of base" in decided(key, base, 5.0).reason


def test_a_claim_without_results_has_failed() -> None:
    found = decided("tokens", trained("a", 10), trained("b", 10), failed="out of memory")
    assert (found.verdict, found.reason) == ("failed", "out of memory")


@pytest.mark.parametrize(("most", "verdict"), [(5000, "supported"), (4999, "refuted")])
def test_a_cost_may_be_held_to_an_amount(most: int, verdict: str) -> None:
    one = trained("a", 10, cost={"tokens": 5000.0 - (verdict == "supported")})
    assert decided("tokens", one, float(most), f"a at_most {most} on tokens").verdict == verdict
