"""How claims are decided: borders, counts, costs, and what stands in a verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.comparison.aligned import scores_of
from harness.comparison.claims import Amount, ClaimVerdict, CostQuestion, Question, decide
from harness.comparison.contrasts import Ranged
from harness.comparison.groups import Group
from harness.comparison.intervals import infer
from harness.comparison.power import equal_power
from harness.comparison.scores import Scores
from harness.comparison.share_contrasts import OneShare
from harness.suite.claims import parse_claim

BETTER = "a better b on m"


def run(values: object, **changes: object) -> Scores:
    column = np.asarray(values, float)
    return scores_of([str(i) for i in range(len(column))], {"value": column}, **changes)


def noise(seed: int, mean: float = 0.0, count: int = 30) -> Scores:
    return run(np.random.default_rng(seed).normal(mean, 1.0, count))


def runs(seeds: int, mean: float = 0.0, first: int = 0) -> dict[int, Scores]:
    return {first + seed: noise(10 * first + seed, mean) for seed in range(seeds)}


def asked(line: str, one: object, other: object, **changes: object) -> Question:
    sides = [{0: side} if isinstance(side, Scores) else side for side in (one, other)]
    return Question(parse_claim(line), "a", "b", "m", "e", *sides, **changes)


def told(line: str, one: object, other: object, **changes: object) -> ClaimVerdict:
    return decide([asked(line, one, other, **changes)])[0]


def rows_right(count: int, of: int) -> Scores:
    return run(np.arange(of) < count)


# --- the border -----------------------------------------------------------------------------------


def test_a_p_that_is_the_level_itself_decides_nothing() -> None:
    """Six changed rows, all one way: p is 1/32, and so is what a confidence of 31/32 leaves."""
    at = told(f"{BETTER} at {31 / 32} confidence", rows_right(6, 40), rows_right(0, 40))
    assert at.claim.alpha == at.p == at.p_adjusted == 1 / 32
    assert at.verdict == "inconclusive"
    assert "by itself" not in at.reason
    assert at.difference.low <= 0
    above = told(f"{BETTER} at 0.96 confidence", rows_right(6, 40), rows_right(0, 40))
    assert (above.verdict, above.needed) == ("supported", None)
    assert above.difference.low > 0


def test_a_claim_that_is_decided_asks_for_no_more_examples_and_an_open_one_does() -> None:
    assert told(BETTER, noise(0, 2.0), noise(1)).needed is None
    assert told(BETTER, noise(0, -2.0), noise(1)).needed is None
    assert told(BETTER, noise(0, 0.2), noise(1)).needed > 0


@pytest.mark.parametrize("others", [1, 3])
def test_among_others_a_claim_asks_for_as_many_examples_as_the_adjustment_costs(
    others: int,
) -> None:
    """The smallest p of n is multiplied by n: alone, its level would be an n-th."""
    pair = noise(0, 0.5), noise(1)
    alike = [asked(BETTER, noise(9), noise(8)) for _ in range(others)]
    first = decide([asked(BETTER, *pair), *alike])[0]
    assert first.p_adjusted == pytest.approx((1 + others) * first.p)
    strict = told(f"{BETTER} at {1 - 0.05 / (1 + others)} confidence", *pair)
    assert first.needed == pytest.approx(strict.needed, rel=1e-3)
    assert first.needed > told(BETTER, *pair).needed


def test_two_limits_ask_for_the_examples_that_the_nearer_one_needs() -> None:
    values = noise(0).sample.columns["value"]
    for mean in (0.2, -0.2):
        one, base = run(values - values.mean() + mean), run(np.zeros(30))
        within = told("a equals b on m within 0.4", one, base)
        words = "better b on m by 0.4" if mean > 0 else "worse b on m by 0.4"
        nearer = told(f"a {words}", one, base)
        assert within.verdict == nearer.verdict == "inconclusive"
        assert within.needed == nearer.needed > 0


def test_what_could_be_shown_of_two_limits_is_told_of_the_harder_one() -> None:
    """Each is missed in 10%, so that both are passed in 80%."""
    shares = OneShare(34.0, 40.0, 0.8)
    below, above = (shares.detectable(0.05, null, 0.9) for null in (-0.1, 0.1))
    assert below > above > shares.detectable(0.05, 0.1)
    verdict = told("a equals b on m within 0.1", rows_right(34, 40), 0.8)
    assert verdict.detectable == pytest.approx(below)
    turned = told("a equals b on m within 0.1", rows_right(6, 40), 0.2)
    assert turned.detectable == pytest.approx(below)


@pytest.mark.parametrize("margin", [0.05, 0.3])
def test_two_limits_so_far_from_the_truth_are_both_passed_in_80_of_100(margin: float) -> None:
    """By the power of Schuirmann's two one-sided tests; whatever the claim's margin is."""
    verdict = told(f"a equals b on m within {margin}", noise(0, count=4000), noise(1, count=4000))
    one, other = (noise(seed, count=4000).sample.columns["value"] for seed in (0, 1))
    error = float((one - other).std(ddof=1)) / 4000**0.5
    assert equal_power(verdict.detectable, 0.0, error, 0.05) == pytest.approx(0.8, abs=0.01)


# --- what stands in a verdict ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "level"),
    [(1, 1, "checkpoint"), (1, 2, "method"), (2, 1, "method"), (3, 3, "method")],
)
def test_seeds_on_either_side_make_a_claim_one_about_methods(
    ours: int, theirs: int, level: str
) -> None:
    one, base = runs(ours, 0.5), runs(theirs, first=5)
    verdict = told(BETTER, one, base)
    assert (verdict.level, verdict.seeds) == (level, ours)
    assert verdict.estimate == pytest.approx(np.mean([s.sample.point() for s in one.values()]))
    assert verdict.reference == pytest.approx(np.mean([s.sample.point() for s in base.values()]))
    assert verdict.difference.value == pytest.approx(verdict.estimate - verdict.reference)


@pytest.mark.parametrize(("seeds", "level"), [(1, "checkpoint"), (2, "method")])
def test_against_a_number_the_variants_seeds_make_the_level(seeds: int, level: str) -> None:
    verdict = told("a better 0.25 on m", runs(seeds, 0.5), 0.25)
    assert (verdict.level, verdict.reference) == (level, 0.25)
    group = Group.of(runs(seeds, 0.5))
    alone = infer(group.runs, group.independent)
    assert (verdict.difference.low, verdict.difference.high) == pytest.approx(
        (alone.low - 0.25, alone.high - 0.25)
    )


@pytest.mark.parametrize("up", [True, False])
def test_a_verdict_says_what_it_is_about(up: bool) -> None:
    clusters = [str(i // 3) for i in range(30)]
    sides = [
        replace(scores_of([str(i) for i in range(30)], dict(one.sample.columns), clusters=clusters,
                          higher_is_better=up, unit="bits"))
        for one in (noise(0, 2.0), noise(1))
    ]  # fmt: skip
    verdict = told(BETTER, *sides)
    assert (verdict.variant, verdict.against, verdict.metric, verdict.evaluation) == (
        "a", "b", "m", "e",
    )  # fmt: skip
    assert (verdict.n, verdict.clusters, verdict.unit) == (30, 10, "bits")
    assert verdict.higher_is_better is up
    assert verdict.verdict == ("supported" if up else "refuted")
    assert verdict.p is not None
    assert verdict.detectable is not None


def test_a_difference_without_an_interval_is_told_by_its_value() -> None:
    alone = told(BETTER, run([0.75]), run([0.25]))
    assert (alone.difference.value, alone.difference.low, alone.difference.high) == (
        0.5,
        None,
        None,
    )
    assert (alone.verdict, alone.p, alone.p_adjusted) == ("inconclusive", None, None)
    assert "one independent example alone" in alone.reason


def test_one_measurement_of_both_sides_is_a_range_of_nothing() -> None:
    same = replace(noise(0), measured="key")
    for line, outcome in ((BETTER, "refuted"), ("a not_worse b on m", "supported"),
                          ("a at_most b on m", "supported")):  # fmt: skip
        verdict = told(line, same, same)
        assert (verdict.verdict, verdict.p) == (outcome, None)
        assert "the same measurement" in verdict.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"candidate": {}}, "a has no m"), ({"reference": {}}, "b has no m"),
        ({"reference": None}, "b has no m"),
        ({"reference": None, "against": "chance"}, "what guessing reaches on m is not known"),
        ({"unlike": "not the same task"}, "not the same task"),
        ({"candidate": {0: run([])}, "reference": 0.5}, "there are no examples"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_says_why(changes: dict[str, object], reason: str) -> None:
    (verdict,) = decide([replace(asked(BETTER, noise(0), noise(1)), **changes)])
    assert (verdict.verdict, verdict.reason) == ("incomparable", reason)
    assert verdict.estimate is verdict.difference is verdict.p is verdict.p_adjusted is None
    assert (verdict.n, verdict.clusters, verdict.seeds, verdict.level) == (0, 0, 0, "")


@pytest.mark.parametrize("side", ["candidate", "reference"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_run_must_be_comparable(side: str, seed: int) -> None:
    sides = {"candidate": runs(2), "reference": runs(2, first=3)}
    key = list(sides[side])[seed]
    sides[side][key] = replace(sides[side][key], version="other")
    verdict = told(BETTER, sides["candidate"], sides["reference"])
    assert (verdict.verdict, verdict.reason) == (
        "incomparable", "not the same scorer, or its version",
    )  # fmt: skip


def test_a_claim_that_cannot_be_decided_costs_the_others_nothing() -> None:
    open_one = asked(BETTER, noise(0, 0.5), noise(1))
    lost = [replace(open_one, failed="lost"), replace(open_one, reference=None)]
    first, *others = decide([open_one, *lost])
    assert first.p_adjusted == first.p
    assert [other.verdict for other in others] == ["failed", "incomparable"]
    assert [decide([*lost, open_one])[2].p_adjusted, decide([])] == [first.p, []]


# --- costs ----------------------------------------------------------------------------------------


def cost(line: str, one: Amount | None, other: Amount | None, **changes: str) -> ClaimVerdict:
    claim = parse_claim(line)
    return decide([CostQuestion(claim, "a", "b", claim.metric, one, other, **changes)])[0]


SMALL, LARGE = Amount(2.0, 1.0, 4.0, seeds=3), Amount(10.0, 8.0, 16.0)


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("a better b on {}", "{less}"), ("a worse b on {}", "{more}"),
        ("a not_worse b on {}", "{less}"), ("a at_most b on {}", "supported"),
        ("a at_least b on {}", "refuted"), ("a at_most 60% of b on {}", "supported"),
        ("a at_most 10% of b on {}", "inconclusive"), ("a at_most 5% of b on {}", "refuted"),
        ("a better b on {} by 50%", "inconclusive"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("metric", "less"), [("train_seconds", True), ("tokens_per_second", False),
                                              ("mfu", False)])  # fmt: skip
def test_less_of_a_cost_is_better_unless_it_is_a_speed(
    line: str, verdict: str, metric: str, less: bool
) -> None:
    if "by 50%" in line:
        verdict = "inconclusive" if less else "refuted"
    names = {True: "supported", False: "refuted"}
    wanted = verdict.format(less=names[less], more=names[not less])
    made = cost(line.format(metric), SMALL, LARGE)
    assert made.verdict == wanted
    assert made.higher_is_better is not less


def test_a_cost_has_the_range_that_both_amounts_leave_and_no_p() -> None:
    made = cost("a at_most 50% of b on train_seconds", SMALL, LARGE, reason="another machine")
    assert made.difference.value == 2.0 - 0.5 * 10.0
    assert (made.difference.low, made.difference.high) == (1.0 - 0.5 * 16.0, 4.0 - 0.5 * 8.0)
    assert (made.estimate, made.reference, made.seeds, made.level) == (2.0, 10.0, 3, "cost")
    assert (made.p, made.p_adjusted, made.detectable, made.noise) == (None, None, None, None)
    assert made.reason == "another machine"
    assert Ranged(1.0, 0.0, 2.0).detectable(0.05) is None


def test_a_cost_that_failed_or_is_unknown_keeps_what_is_said_of_it() -> None:
    lost = cost("a at_most b on train_seconds", SMALL, LARGE, failed="out of memory", reason="busy")
    assert (lost.verdict, lost.reason, lost.estimate) == ("failed", "out of memory", None)
    unknown = cost("a at_most b on train_seconds", None, LARGE, reason="not measured")
    assert (unknown.verdict, unknown.reason) == ("incomparable", "not measured")
    assert (unknown.level, unknown.seeds, unknown.difference) == ("cost", 0, None)
