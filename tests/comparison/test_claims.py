"""Verdicts on claims: what the interval says against the limit, and what cannot be decided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests

from harness.comparison.aligned import Unaligned, scores_of, scores_of_draws
from harness.comparison.claims import ClaimVerdict, Question, decide
from harness.comparison.contrasts import Contrast
from harness.comparison.differences import contrast_of
from harness.comparison.groups import Group
from harness.comparison.judges import Trust
from harness.comparison.result import Estimate, PoweredRate
from harness.comparison.scores import Scores
from harness.comparison.share_contrasts import OneShare, PairedShares
from harness.comparison.verdicts import benjamini_hochberg, holm
from harness.suite.claims import parse_claim


def run(values: object, **changes: object) -> Scores:
    """One run on examples 0, 1, 2 ..."""
    column = np.asarray(values, float)
    ids = changes.pop("ids", [str(i) for i in range(len(column))])
    return scores_of(ids, {"value": column}, **changes)


def asked(line: str, one: object, other: object, **changes: object) -> Question:
    """A claim about two runs, or lists of runs, or about a run and a number."""
    sides = [
        dict(enumerate(side)) if isinstance(side, list) else {0: side} if isinstance(side, Scores)
        else side
        for side in (one, other)
    ]  # fmt: skip
    return Question(parse_claim(line), "a", "b", "m", "", *sides, **changes)


def verdict(line: str, one: object, other: object) -> ClaimVerdict:
    return decide([asked(line, one, other)])[0]


def noise(seed: int, count: int = 200, spread: float = 0.1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, count)


@pytest.mark.parametrize(
    ("line", "gain", "outcome"),
    [
        ("a better b on m", 0.1, "supported"), ("a better b on m", -0.1, "refuted"),
        ("a better b on m", 0.0, "inconclusive"), ("a better b on m by 0.05", 0.1, "supported"),
        ("a better b on m by 0.1", 0.1, "inconclusive"), ("a better b on m by 0.2", 0.1, "refuted"),
        ("a worse b on m", -0.1, "supported"), ("a worse b on m by 0.05", -0.02, "refuted"),
        ("a not_worse b on m by 0.05", 0.0, "supported"),
        ("a not_worse b on m by 0.05", -0.1, "refuted"),
        ("a not_worse b on m by 0.05", -0.05, "inconclusive"),
        ("a equals b on m within 0.05", 0.0, "supported"),
        ("a equals b on m within 0.05", 0.1, "refuted"),
        ("a equals b on m within 0.05", -0.1, "refuted"),
        ("a equals b on m within 0.05", 0.05, "inconclusive"),
        ("a at_most b on m", -0.1, "supported"), ("a at_least b on m", -0.1, "refuted"),
        ("a at_most 50% of b on m", -0.6, "supported"),
        ("a at_most 50% of b on m", -0.4, "refuted"),
        ("a better b on m by 5%", 0.1, "supported"), ("a better b on m by 20%", 0.1, "refuted"),
        ("a not_worse b on m by 5%", -0.02, "supported"),
        ("a equals b on m within 5%", -0.1, "refuted"),
        ("a equals b on m within 5%", 0.0, "supported"),
    ],
)  # fmt: skip
def test_verdict_is_the_interval_against_the_limit(line: str, gain: float, outcome: str) -> None:
    """Of a metric about 1, which moves by `gain` in all examples, give or take."""
    base = 1 + noise(0)
    own = base + gain + (moved := noise(1)) - moved.mean()
    assert verdict(line, run(own), run(base)).verdict == outcome
    if " at_" in line:
        return  # these are about the value, whichever way is better
    lower = {"higher_is_better": False}
    mirrored = verdict(line, run(2 - own, **lower), run(2 - base, **lower))
    if "%" not in line:
        assert mirrored.verdict == outcome


def test_claim_about_a_constant_and_about_chance() -> None:
    right = run(np.arange(100) < 60, chance=0.25)
    assert verdict("a at_least 0.55 on m", right, 0.55).verdict == "inconclusive"
    assert verdict("a at_least 0.4 on m", right, 0.4).verdict == "supported"
    above = Question(parse_claim("a better chance on m"), "a", "chance", "m", "", {0: right})
    assert decide([above])[0].verdict == "supported"
    assert decide([above])[0].reference == 0.25
    unknown = replace(above, candidate={0: replace(right, chance=None)})
    assert "what guessing reaches" in decide([unknown])[0].reason


@pytest.mark.parametrize("line", ["a better b on m", "a not_worse b on m by 0.5"])
def test_figures_of_a_judge_that_is_not_trusted_support_and_refute_nothing(line: str) -> None:
    for gain, outcome in ((0.3, "supported"), (-0.9, "refuted")):
        sides = [replace(run(noise(1) + one), judged=True) for one in (gain, 0.0)]
        told = verdict(line, *sides)
        assert (told.verdict, told.p) == ("inconclusive", None)
        assert "its judge is uncalibrated" in told.reason
        guessing = [replace(side, trust=Trust("kappa 0.01")) for side in sides]
        assert "better than chance (kappa 0.01)" in verdict(line, *guessing).reason
        trusted = [replace(side, trust=Trust("kappa 0.6", True)) for side in sides]
        assert verdict(line, *trusted).verdict == outcome


@pytest.mark.parametrize(("low", "outcome"), [(0.45, "inconclusive"), (0.55, "supported")])
def test_a_win_rate_that_may_be_one_half_with_the_judges_error_decides_nothing(
    low: float, outcome: str
) -> None:
    """By the judge alone the answers win; its error, known by labels, is in another interval."""
    estimate = Estimate(0.65, low, 0.85)
    rate = PoweredRate("a", "b", "tasks", 40, 200, 0.9, estimate, estimate, 0.3)
    won = replace(run(np.arange(200) < 180), judged=True, even=0.5)
    told = verdict("a better 0.5 on m", replace(won, trust=Trust("kappa 0.6", True, rate)), 0.5)
    assert told.verdict == outcome
    assert ("the win rate may be one half: 0.65" in told.reason) == (low < 0.5)


def test_shares_are_tested_as_mcnemar_and_tango_have_it() -> None:
    """The pair of lm-eval's request 3868: p .008, where unpaired shares give .08."""
    up, down = 19, 5
    own, base = (np.zeros(400) for _ in range(2))
    own[:up], base[up : up + down] = 1, 1
    told = verdict("a better b on m", run(own), run(base))
    assert told.p == pytest.approx(stats.binomtest(down, up + down).pvalue)
    assert told.verdict == "supported"


@pytest.mark.parametrize(
    ("up", "down", "rows"), [(14, 6, 80), (0, 0, 40), (3, 0, 30), (30, 44, 90)]
)
@pytest.mark.parametrize("null", [-0.3, -0.05, 0.02, 0.4])
def test_score_test_uses_the_likeliest_shares_with_that_difference(
    up: int, down: int, rows: int, null: float
) -> None:
    """Tango's closed form against the likelihood maximised by scipy."""

    def unlikely(lost: float) -> float:
        shares = np.array([lost + null, lost, 1 - 2 * lost - null])
        counts = np.array([up, down, rows - up - down])
        return -float(np.sum(counts * np.log(np.maximum(shares, 1e-300))))

    least, most = max(0.0, -null), (1 - null) / 2
    lost = optimize.minimize_scalar(
        unlikely, bounds=(least, most), method="bounded", options={"xatol": 1e-12}
    ).x
    error = np.sqrt((2 * lost + null - null**2) / rows)
    wanted = 2 * stats.norm.sf(abs((up - down) / rows - null) / error)
    if 0 < null < (up - down) / rows or (up - down) / rows < null < 0:  # no sooner than 0 is
        wanted = max(wanted, stats.binomtest(down, up + down).pvalue)
    assert PairedShares(up, down, rows).p(null) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    "contrast",
    [PairedShares(9, 4, 60), PairedShares(5, 0, 1000), PairedShares(0, 5, 90),
     PairedShares(0, 0, 25), PairedShares(12, 0, 12), OneShare(7, 20, 0.3),
     OneShare(0, 9, 0.1)],
)  # fmt: skip
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_interval_holds_what_the_test_does_not_reject(contrast: Contrast, alpha: float) -> None:
    low, high = contrast.interval(alpha)
    for null in (*np.linspace(-0.99, 0.99, 67), 0.0005, -0.0005):
        if min(abs(null - low), abs(null - high)) > 1e-6:
            assert bool(low < null < high) is bool(contrast.p(null) >= alpha), (null, low, high)


def test_seeds_are_a_level_and_one_seed_speaks_of_one_checkpoint() -> None:
    base = [run(noise(i)) for i in range(3)]
    lucky = [run(noise(i) + gain + noise(9 + i, spread=0.02)) for i, gain in
             enumerate((0.2, -0.1, 0.02))]  # fmt: skip
    method = verdict("a better b on m", lucky, base)
    assert (method.verdict, method.level, method.seeds) == ("inconclusive", "method", 3)
    one = verdict("a better b on m", lucky[0], base[0])
    assert (one.verdict, one.level) == ("supported", "checkpoint")
    assert "about one checkpoint only" in one.reason


def test_unequal_examples_are_compared_only_when_told_to() -> None:
    one, other = run(noise(0, 50) + 1), run(noise(1, 48), ids=[str(i) for i in range(2, 50)])
    refused = verdict("a better b on m", one, other)
    assert refused.verdict == "incomparable"
    assert "48 of up to 50" in refused.reason
    claim = parse_claim("a better b on m").model_copy(update={"examples": "shared"})
    told = decide([Question(claim, "a", "b", "m", "", {0: one}, {0: other})])[0]
    assert (told.verdict, told.n) == ("supported", 48)
    assert "48 of up to 50 examples" in told.reason


def test_examples_are_matched_by_name_and_not_by_place() -> None:
    values, order = noise(0, 60), np.random.default_rng(1).permutation(60)
    moved = values + 0.01 + 0.001 * noise(2, 60)
    shuffled = run(moved[order], ids=[str(i) for i in order])
    assert verdict("a better b on m", shuffled, run(values)).verdict == "supported"


def test_value_that_is_missing_is_not_a_value() -> None:
    values = noise(0, 60)
    gap = np.where(np.arange(60) < 3, np.nan, values + 1)
    assert verdict("a better b on m", run(gap), run(values)).verdict == "incomparable"
    with pytest.raises(Unaligned, match="occurs twice"):
        run([1.0, 2.0], ids=["x", "x"])


def test_clusters_of_either_side_hold_for_both() -> None:
    names = [str(i // 10) for i in range(100)]
    moved = np.repeat(noise(0, 10, 1.0), 10) + 0.45
    base = noise(1, 100)
    single = verdict("a better b on m", run(base + moved), run(base))
    assert single.verdict == "supported"
    for one, other in ((names, None), (None, names), (names, names)):
        told = verdict(
            "a better b on m", run(base + moved, clusters=one), run(base, clusters=other)
        )
        assert (told.verdict, told.clusters) == ("inconclusive", 10)
    apart = verdict("a better b on m", run(base + moved, clusters=names),
                    run(base, clusters=names[::-1]))  # fmt: skip
    assert apart.reason == "not the same clusters of examples"


@pytest.mark.parametrize(
    ("line", "one", "other", "outcome"),
    [
        ("a better b on m", [0.5], [0.1], "inconclusive"),
        ("a better b on m", [0.5] * 9, [0.1] * 9, "supported"),
        ("a better b on m", [0.5] * 4, [0.1] * 4, "inconclusive"),
        ("a better b on m", [0.0] * 90, [0.0] * 90, "inconclusive"),
        ("a not_worse b on m by 0.2", [0.0] * 90, [0.0] * 90, "supported"),
        ("a not_worse b on m by 0.01", [0.0] * 90, [0.0] * 90, "inconclusive"),
        ("a not_worse b on m by 0.2", [1.0], [1.0], "inconclusive"),
        ("a at_least 0.5 on m", [1.0] * 9, 0.5, "supported"),
        ("a at_least 0.5 on m", [1.0] * 2, 0.5, "inconclusive"),
        ("a better b on m by 10%", [0.0] * 30, [0.0] * 30, "inconclusive"),
    ],
)
def test_degenerate_scores_give_no_verdict_that_they_do_not_bear(
    line: str, one: list[float], other: list[float] | float, outcome: str
) -> None:
    base = other if isinstance(other, float) else run(other)
    assert verdict(line, run(one), base).verdict == outcome


def test_the_same_measurement_is_no_worse_than_itself() -> None:
    same = replace(run([0.3, 0.4]), measured="key")
    assert verdict("a not_worse b on m", same, same).verdict == "supported"
    assert verdict("a better b on m", same, same).verdict == "refuted"
    alone = replace(run([1.0]), measured="key")
    assert verdict("a not_worse b on m by 10%", alone, alone).verdict == "inconclusive"


def test_scores_that_all_lie_at_their_bound_may_still_be_lower() -> None:
    """Of scores between 0 and 1 that are held against a number."""
    ten, many = (run([0.9] * count, bounds=(0.0, 1.0)) for count in (10, 200))
    assert verdict("a not_worse b on m by 0.2", ten, 0.9).verdict == "inconclusive"
    assert verdict("a not_worse b on m by 0.2", many, 0.9).verdict == "supported"
    ones = run([1.0] * 10, bounds=(0.0, 1.0))
    claim = parse_claim("a not_worse b on m by 0.1").model_copy(update={"looks": "repeated"})
    told = decide([replace(asked("a not_worse b on m by 0.1", ones, 1.0), claim=claim)])[0]
    assert told.verdict == "inconclusive"


def test_other_scorer_is_incomparable_and_a_failed_side_is_failed() -> None:
    one, other = run(noise(0)), run(noise(1), version="v2")
    assert verdict("a better b on m", one, other).reason == "not the same scorer, or its version"
    failed = decide([asked("a better b on m", one, one, failed="train of a: out of memory")])[0]
    assert (failed.verdict, failed.reason) == ("failed", "train of a: out of memory")
    assert verdict("a better b on m", one, {}).reason == "b has no m"


def test_p_is_adjusted_over_the_claims_that_are_decided_together() -> None:
    base = noise(0)
    questions = [asked("a better b on m", run(base + gain + noise(i + 1)), run(base))
                 for i, gain in enumerate((0.016, 0.03, 0.02, 0.1, 0.0))]  # fmt: skip
    ps = [verdict.p for verdict in decide(questions)]
    for correction, method in (("holm", "holm"), ("bh", "fdr_bh")):
        told = [verdict.p_adjusted for verdict in decide(questions, correction)]
        assert told == pytest.approx(multipletests(ps, method=method)[1])
    alone = decide(questions[:1])[0]
    assert alone.p == alone.p_adjusted


def test_adjustments_are_those_of_statsmodels() -> None:
    values = np.random.default_rng(0).random(40) ** 3
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])
    assert benjamini_hochberg(values) == pytest.approx(multipletests(values, method="fdr_bh")[1])
    assert benjamini_hochberg([]) == []


def test_as_many_more_examples_as_it_says_would_decide() -> None:
    """Twenty sets of the size that an inconclusive claim asks for: most of them decide."""
    rng = np.random.default_rng(5)
    few = rng.normal(0, 1, 100)
    few += 0.15 - few.mean()
    told = verdict("a better b on m", run(few), run(np.zeros(100)))
    assert told.verdict == "inconclusive"
    assert told.needed is not None
    decided = [
        verdict("a better b on m", run(0.15 + rng.normal(0, few.std(), 100 + told.needed)),
                run(np.zeros(100 + told.needed))).verdict
        for _ in range(20)
    ]  # fmt: skip
    assert 12 <= decided.count("supported") <= 20


def test_repeated_looks_are_paid_for_by_a_wider_interval() -> None:
    own, base = noise(1) + 0.02, np.zeros(200)
    once = verdict("a better b on m", run(own), run(base))
    claim = parse_claim("a better b on m").model_copy(update={"looks": "repeated"})
    watched = decide([Question(claim, "a", "b", "m", "", {0: run(own)}, {0: run(base)})])[0]
    assert watched.difference.low < once.difference.low
    assert watched.p > once.p
    assert (watched.difference.low > 0) == (watched.p < 0.05)


def test_noise_of_examples_answers_and_seeds_is_told_apart() -> None:
    """The shares that were put in: examples 4, answers 9 / 6 on each side; then seeds too."""
    rng, n, k = np.random.default_rng(3), 4000, 6
    ids = [str(i) for i in range(n)]
    examples = rng.normal(0, 2, n)

    def drawn(shift: np.ndarray | float) -> Scores:
        return scores_of_draws(ids, (shift + rng.normal(0, 3, (k, n))).T)

    told = verdict("a better b on m", drawn(examples), drawn(0.0)).noise
    assert told.answers == pytest.approx(3 / 7, abs=0.03)
    assert told.seeds is None
    assert told.examples + told.answers == pytest.approx(1)
    assert told.largest == "examples"
    seeds = [drawn(examples + shift) for shift in (0.4, -0.4, 0.1, -0.1)]
    told = verdict("a better b on m", seeds, [drawn(0.0)] * 4).noise
    assert told.largest == "seeds"
    assert sum(told.known.values()) == pytest.approx(1)
    assert verdict("a better b on m", run(noise(0)), run(noise(1))).noise is None


@pytest.mark.parametrize(("up", "gain", "outcome"), [
    (True, -0.02, "supported"), (True, -0.1, "refuted"), (True, 0.0, "supported"),
    (False, 0.02, "supported"), (False, 0.1, "refuted"),
])  # fmt: skip
def test_share_of_a_negative_value_is_a_margin_all_the_same(
    up: bool, gain: float, outcome: str
) -> None:
    """Not worse by more than 5% of a reward of -1: of 0.05."""
    base = -1 + noise(0)
    own = base + gain + (moved := noise(1, spread=0.05)) - moved.mean()
    changes = {"higher_is_better": up}
    told = verdict("a not_worse b on m by 5%", run(own, **changes), run(base, **changes))
    assert told.verdict == outcome
    near_zero = verdict("a not_worse b on m by 5%", run(noise(2)), run(noise(3)))
    assert "a share of a value that may be 0" in near_zero.reason


@pytest.mark.parametrize("margin", [30, 100, 150, 300])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, float("inf")), (-float("inf"), 0.9)])
def test_margin_of_more_than_the_whole_value_keeps_interval_and_verdict_together(
    margin: int, bounds: tuple[float, float]
) -> None:
    """Its limit is a ratio of 0 or below. What is known of the values bounds the difference."""
    rng = np.random.default_rng(1)
    for level in (0.05, 0.3, 0.85):
        one, other = (run(level * rng.uniform(0.9, 1, 40), bounds=bounds) for _ in range(2))
        group, base = (Group.of({0: side}) for side in (one, other))
        for ratio in (1 - margin / 100, 1 + margin / 100):
            contrast = contrast_of(group, base, ratio)
            low, high = contrast.interval(0.05)
            assert low <= contrast.value <= high
            assert contrast.value == pytest.approx(
                one.sample.point() - ratio * other.sample.point()
            )
            for null in (low - 1e-6, high + 1e-6):
                inside = all(map(np.isfinite, contrast.bounds)) and not (
                    contrast.bounds[0] <= null <= contrast.bounds[1]
                )
                assert inside or contrast.p(null) < 0.05
        line = f"a not_worse b on m by {margin}%"
        assert verdict(line, one, other).verdict == "supported"


def test_judge_whose_error_is_not_known_decides_no_claim() -> None:
    base, judged = noise(0), {"judged": True}
    one, other = run(base + 1), run(base + noise(1))
    told = verdict("a better b on m", replace(one, **judged), replace(other, **judged))
    assert (told.verdict, told.p, told.needed) == ("inconclusive", None, None)
    assert "its judge is uncalibrated" in told.reason
    trusted = {"judged": True, "trust": Trust("kappa 0.6", shown=True)}
    sure = verdict("a better b on m", replace(one, **trusted), replace(other, **trusted))
    assert sure.verdict == "supported"
