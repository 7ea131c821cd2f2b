"""The plain data of a comparison: what it says of itself, and that nothing unknown has a figure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.comparison.result import (
    ALL,
    ClaimVerdict,
    Comparison,
    Estimate,
    Example,
    JudgedRank,
    JudgedRate,
    Noise,
    PoweredRate,
    SuiteJudge,
    VariantResult,
)
from harness.comparison.result import Row as ResultRow
from harness.core.errors import HarnessError
from harness.suite.claims import parse_claim
from tests.comparisons import comparison, cost_of, row, variant


def test_an_estimate_is_written_with_four_digits_and_its_interval_if_it_has_one() -> None:
    assert str(Estimate(0.123456, 0.1, 0.98765)) == "0.1235 [0.1, 0.9877]"
    assert str(Estimate(12.0)) == "12"


@pytest.mark.parametrize(
    ("low", "high", "is_open"),
    [
        (0.4, 0.6, True), (0.5, 0.6, True), (0.4, 0.5, True), (0.51, 0.6, False),
        (0.4, 0.49, False), (None, None, True), (None, 0.4, True), (0.6, None, True),
    ],
)  # fmt: skip
def test_a_win_rate_is_open_as_long_as_it_may_be_one_half(
    low: float | None, high: float | None, is_open: bool
) -> None:
    """By the labels and the judge together, whatever either says alone."""
    sure = Estimate(0.9, 0.8, 1.0)
    rate = PoweredRate("a", "b", "tasks", 10, 20, 0.9, sure, Estimate(0.55, low, high), 0.3)
    assert rate.open is is_open
    assert rate.stage == ""


@pytest.mark.parametrize(
    ("judged", "trusted", "uncalibrated"),
    [(False, False, False), (False, True, False), (True, False, True), (True, True, False)],
)
def test_only_a_judges_figures_can_be_uncalibrated(
    judged: bool, trusted: bool, uncalibrated: bool
) -> None:
    assert row("a", "m", 0.5, judged=judged, trusted=trusted).uncalibrated is uncalibrated


@pytest.mark.parametrize(
    ("verdict", "p", "apart"),
    [
        ("better", 0.001, True), ("worse", 0.001, True), ("better", None, True),
        ("no difference shown", 0.04, True), ("no difference shown", 0.06, False),
        ("uncalibrated", 0.001, False), ("baseline", None, False), ("incomparable", 0.01, False),
    ],
)  # fmt: skip
def test_a_row_is_set_apart_by_its_own_p(verdict: str, p: float | None, apart: bool) -> None:
    assert row("a", "m", 0.5, verdict=verdict, p=p).set_apart is apart


def test_a_row_of_which_nothing_more_is_told_has_no_seeds_and_no_judge() -> None:
    bare = ResultRow("a", "m", "e", ALL, True, "", 3, 3, 1, Estimate(0.5), None, None, None, None,
                     "checkpoint", "baseline")  # fmt: skip
    assert (bare.note, bare.by_seed, bare.chance, bare.credentials) == ("", (), None, "")
    assert (bare.forgetting, bare.judged, bare.trusted) == (False, False, False)


def test_a_judge_that_was_held_to_no_labels_has_no_figures() -> None:
    judge = SuiteJudge("judge")
    assert (judge.source, judge.pairs, judge.trusted, judge.rates) == ("", 0, False, ())
    figures = (judge.agreement, judge.by_chance, judge.kappa, judge.alpha, judge.position,
               judge.flips, judge.verbosity, judge.attacked)  # fmt: skip
    assert figures == (None,) * 8
    half = Estimate(0.5)
    rate = JudgedRate("judge", "a", "b", "tasks", 9, 1, 4, 1, 4, half, half)
    assert (rate.strength, rate.rank) == (None, "")
    assert JudgedRank("judge", "a", "tasks", half, "1", {"b": (0.5, 9)}).won["b"] == (0.5, 9)


def test_a_variant_is_trained_here_and_answers_itself_unless_it_is_said_otherwise() -> None:
    plain = variant("a", 3.0)
    fields = VariantResult.__dataclass_fields__
    bare = VariantResult(**{name: getattr(plain, name) for name in list(fields)[:11]})
    assert (bare.elsewhere, bare.served, bare.losses, bare.spread) == (False, False, (), {})
    assert (bare.timed, bare.answering, bare.learnt, bare.merged_from) == ((), (), frozenset(), "")
    assert Example("1", "tasks", "g", "p", (), {}, {}).finishes == {}


# --- where the doubt comes from, and claims -------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "known", "largest"),
    [
        (Noise(0.5, None, 0.5), {"examples": 0.5, "seeds": 0.5}, "examples"),
        (Noise(0.1, 0.6, 0.3), {"examples": 0.1, "answers": 0.6, "seeds": 0.3}, "answers"),
        (Noise(0.0, 0.2, 0.8), {"examples": 0.0, "answers": 0.2, "seeds": 0.8}, "seeds"),
        (Noise(0.7, 0.3), {"examples": 0.7, "answers": 0.3}, "examples"),
    ],
)
def test_the_largest_part_of_the_doubt_is_what_to_spend_on(
    noise: Noise, known: dict[str, float], largest: str
) -> None:
    """A part of 0 is known, and one that nobody knows is not 0."""
    assert noise.known == known
    assert noise.largest == largest


def test_a_verdict_of_which_nothing_is_known_has_no_figures() -> None:
    claim = parse_claim("lora better full on f1")
    bare = ClaimVerdict(claim, "lora-0", "full-0", "f1", "tasks", "failed")
    figures = (bare.estimate, bare.reference, bare.difference, bare.p, bare.p_adjusted,
               bare.detectable, bare.needed, bare.noise)  # fmt: skip
    assert figures == (None,) * 8
    assert (bare.n, bare.clusters, bare.seeds, bare.level) == (0, 0, 0, "")
    assert (bare.reason, bare.unit, bare.higher_is_better) == ("", "", True)


def test_a_claim_is_titled_by_its_name_else_as_a_sentence_about_its_variants() -> None:
    claim = parse_claim("lora* better full on f1 by 0.1")
    verdict = ClaimVerdict(claim, "lora-8", "full-1", "f1", "tasks", "failed")
    assert verdict.title == "lora-8 is better than full-1 on f1 by more than 0.1"
    named = replace(verdict, claim=claim.model_copy(update={"name": "low rank wins"}))
    assert named.title == "low rank wins (lora-8 against full-1)"


def test_a_reason_is_told_once() -> None:
    claim = parse_claim("lora better full on f1")
    verdict = ClaimVerdict(claim, "a", "b", "f1", "tasks", "failed")
    assert verdict.noted("").reason == ""
    assert verdict.noted("x").noted("y").noted("x").reason == "x; y; x"
    assert verdict.noted("x").noted("x").reason == "x"


# --- the whole ------------------------------------------------------------------------------------


def test_a_comparison_without_claims_judges_and_merges_has_none() -> None:
    whole = comparison()
    names = ("tuning", "merged", "rows_used", "taxes", "beside_best", "claims", "judges",
             "judged_rates", "judged_ranks")  # fmt: skip
    assert [getattr(whole, name) for name in names] == [()] * len(names)
    assert (whole.baselines, whole.best, whole.correction) == ({}, "", "holm")
    fields = list(Comparison.__dataclass_fields__)[:11]
    bare = Comparison(**{name: getattr(whole, name) for name in fields})
    assert (bare.notes, bare.suite_text) == ((), "")
    assert bare.tests.startswith("Paired on the same examples: exact McNemar")


def test_each_variant_is_held_against_its_own_baseline_or_the_suites() -> None:
    whole = comparison(baselines={"lora-sft": "full-sft"})
    against = {v.group: whole.against(v.group) for v in whole.variants}
    assert against == {
        "zero-shot": "zero-shot", "full-sft": "zero-shot", "lora-sft": "full-sft",
        "dpo-sft": "zero-shot",
    }  # fmt: skip
    assert [v.group for v in whole.variants if whole.is_baseline(v.group)] == ["zero-shot"]


def apart(whole: Comparison, one: str, other: str, metric: str = "m", on: str = "tasks") -> bool:
    both = whole.sets_apart(one, other, metric, on)
    assert whole.sets_apart(other, one, metric, on) is both
    return both


def test_two_variants_are_set_apart_by_the_row_of_either_over_all_examples() -> None:
    whole = comparison(
        rows=(row("full-sft", "m", 0.5), row("lora-sft", "m", 0.5, verdict="no difference shown"),
              row("dpo-sft", "m", 0.5, slice="part")),
    )  # fmt: skip
    assert apart(whole, "full-sft", "zero-shot")
    assert not apart(whole, "full-sft", "zero-shot", metric="n")
    assert not apart(whole, "full-sft", "zero-shot", on="other")
    assert not apart(whole, "full-sft", "lora-sft"), "nobody compared these two"
    assert not apart(whole, "dpo-sft", "zero-shot"), "of a slice alone"
    shown = replace(whole, rows=(row("full-sft", "m", 0.5, verdict="no difference shown", p=0.2),))
    assert not apart(shown, "full-sft", "zero-shot")
    against = replace(whole, baselines={"full-sft": "lora-sft"})
    assert apart(against, "full-sft", "lora-sft")
    assert not apart(against, "full-sft", "zero-shot")


def test_two_variants_are_set_apart_by_what_else_compared_them() -> None:
    whole = comparison(rows=())
    best = replace(whole, best="full-sft", beside_best=(row("lora-sft", "m", 0.5),))
    assert apart(best, "lora-sft", "full-sft")
    assert not apart(best, "lora-sft", "zero-shot")
    merged = replace(
        whole, merged=(row("merged", "m", 0.5), row("other", "m", 0.5)),
        variants=(variant("merged", merged_from="lora-sft"), variant("lora-sft")),
    )  # fmt: skip
    assert apart(merged, "merged", "lora-sft")
    assert not apart(merged, "other", "lora-sft")
    taxed = replace(whole, taxes=(cost_of("dpo", 0.3, 2.0),))
    assert apart(taxed, "dpo", "sft", "reward", "asked")
    assert apart(taxed, "dpo", "sft", "forgetting")
    assert not apart(taxed, "dpo", "sft", "kl_to_start")


def test_a_row_that_is_not_there_is_missed_by_what_is_wrong_with_it() -> None:
    whole = comparison()
    for asked, words in (
        (("dpo-sft", "rougeL"), "dpo-sft has no results: train of dpo-sft: out of memory"),
        (("lora-sfd", "rougeL"), "unknown variant 'lora-sfd'"),
        (("lora-sft", "rouge"), "unknown metric 'rouge'"),
        (("lora-sft", "rougeL", "tasks", "letters"), "no rougeL on 'tasks' and slice 'letters'"),
    ):
        with pytest.raises(HarnessError, match=words):
            whole.row(*asked)
    part = replace(whole, variants=(variant("lora-sft", status="partial", reasons=("lost",)),))
    with pytest.raises(HarnessError, match="unknown metric"):
        part.row("lora-sft", "f1")
