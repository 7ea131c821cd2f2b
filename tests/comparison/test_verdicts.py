"""Verdicts go the right way, pair what belongs together, and say what they do not show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.comparison.binomial import effective_rows, share
from harness.comparison.constant import notes
from harness.comparison.groups import Group
from harness.comparison.intervals import CONFIDENCE, infer
from harness.comparison.result import ALL, Estimate, Row
from harness.comparison.rows import AllScores, against_constant, rows_of
from harness.comparison.scores import Column, Keys, Scores
from harness.comparison.statistics import Sample
from harness.comparison.verdicts import adjusted
from tests.comparisons import row as made_up_row

COLUMN: Column = ("score", "tasks")


def keys(count: int, groups: int = 1) -> Keys:
    names = tuple(map(str, range(count)))
    return Keys(names, names, tuple(f"family {i % groups}" for i in range(count)))


def scores(found: Keys, values: np.ndarray, up: bool = True, **changes: object) -> Scores:
    sample = Sample("mean", {"value": np.asarray(values, float)})
    return replace(Scores(found, sample, up, "", "v1", "rows"), **changes)


def table(made: dict[str, dict[int, Scores]], baseline: str = "base") -> dict[str, Row]:
    """Rows of the whole, by variant."""
    by_column: AllScores = {
        name: {seed: {COLUMN: own} for seed, own in seeds.items()} for name, seeds in made.items()
    }
    return {r.group: r for r in adjusted(rows_of(by_column, baseline)) if r.slice == ALL}


def noise(seed: int, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, count)


@pytest.mark.parametrize(("up", "risen", "fallen"), [(True, "better", "worse"),
                                                     (False, "worse", "better")])  # fmt: skip
def test_rise_is_better_only_where_higher_is(up: bool, risen: str, fallen: str) -> None:
    shared = keys(60)
    found = table({
        "base": {0: scores(shared, noise(0), up)},
        "risen": {0: scores(shared, 1 + noise(1), up)},
        "fallen": {0: scores(shared, noise(2) - 1, up)},
    })  # fmt: skip
    assert (found["risen"].verdict, found["fallen"].verdict) == (risen, fallen)


def test_each_seed_is_paired_with_the_baselines_own() -> None:
    """Seeds that differ much, and alike on both sides: only in pairs is the difference clear."""
    shared, offsets = keys(60), (-3.0, 0.0, 3.0, 5.0)
    made = {
        "base": {s: scores(shared, offsets[s] + noise(s)) for s in (3, 2, 1, 0)},
        "own": {s: scores(shared, offsets[s] + 0.5 + noise(9 + s)) for s in range(4)},
        "other": {s + 4: scores(shared, offsets[s] + 0.5 + noise(9 + s)) for s in range(4)},
    }
    found = table(made)
    assert found["own"].verdict == "better"
    assert found["own"].difference.value == pytest.approx(found["other"].difference.value)
    assert found["other"].verdict == "no difference shown"
    assert found["own"].level == found["other"].level == "method"


def test_one_checkpoint_is_held_against_all_seeds_of_the_baseline() -> None:
    """Not against that of its own seed alone, which may have been a lucky one."""
    shared = keys(60)
    made = {
        "base": {s: scores(shared, offset + noise(s)) for s, offset in enumerate((-2.0, 0.1, 2.2))},
        "own": {0: scores(shared, noise(7))},
    }
    row = table(made)["own"]
    assert row.difference.value == pytest.approx(-0.1, abs=0.05)
    assert row.verdict == "no difference shown"
    assert row.level == "checkpoint"
    assert "one checkpoint against the baseline's 3 seeds" in row.note


@pytest.mark.parametrize("seeds", [[0, 1], [0, 1, 2], [4, 5]])
def test_seeds_of_the_baseline_that_were_left_out_are_named(seeds: list[int]) -> None:
    """Two of three seeds have a pair; seeds that the baseline lacks are held against all of its."""
    shared = keys(60)
    made = {
        "base": {s: scores(shared, noise(s)) for s in range(3)},
        "own": {s: scores(shared, 1 + noise(9 + s)) for s in seeds},
    }
    named = "against the baseline's seeds 0 and 1 alone" in table(made)["own"].note
    assert named is (seeds == [0, 1])


@pytest.mark.parametrize("seeds", [2, 3])
def test_verdict_on_two_seeds_says_what_it_is_worth(seeds: int) -> None:
    shared = keys(60)
    made = {
        name: {s: scores(shared, up + noise(7 * up + s)) for s in range(seeds)}
        for name, up in (("base", 0), ("own", 1))
    }
    assert ("only 2 seeds" in table(made)["own"].note) is (seeds == 2)


def test_baseline_of_one_training_run_is_said_to_be_one() -> None:
    shared = keys(60)
    made = {
        "base": {0: scores(shared, noise(0))},
        "own": {s: scores(shared, 1 + noise(s)) for s in (1, 2, 3)},
    }
    assert "the baseline is one checkpoint" in table(made)["own"].note
    untrained = {0: replace(made["base"][0], trained=False)}
    assert not table({**made, "base": untrained})["own"].note


def test_shares_are_tested_exactly_and_their_intervals_agree() -> None:
    shared, right = keys(20), np.arange(20) < 10
    made = {"base": {0: scores(shared, right)}}
    for moved in range(11):
        made[f"own{moved}"] = {0: scores(shared, right | (np.arange(20) >= 20 - moved))}
    for moved in range(11):
        row = table({name: made[name] for name in ("base", f"own{moved}")})[f"own{moved}"]
        assert row.p == pytest.approx(min(1.0, 2 * 0.5**moved))
        assert (row.difference.low > 0) is (row.p < 0.05)
        assert row.verdict == ("better" if row.p < 0.05 else "no difference shown")


def test_share_of_none_has_an_interval_in_every_layout() -> None:
    nothing = np.zeros(40)
    pairs = Keys(
        tuple(map(str, range(40))), tuple(str(i // 4) for i in range(40)), ("",) * 40
    )  # fmt: skip
    single, clustered = table({"base": {0: scores(keys(40), nothing)}})["base"], table(
        {"base": {0: scores(pairs, nothing)}}
    )["base"]  # fmt: skip
    seeds = table({"base": {s: scores(keys(40), nothing) for s in range(3)}})["base"]
    assert 0.06 < single.estimate.high < 0.1
    assert single.estimate.low == clustered.estimate.low == 0
    assert clustered.estimate.high > 0.25, "ten clusters tell no more than ten rows may"
    assert seeds.estimate == single.estimate


def test_share_of_clusters_that_are_alike_is_as_sure_as_they_are() -> None:
    right = np.repeat(np.arange(10) < 4, 10)
    names = tuple(map(str, range(100)))
    clustered = Keys(names, tuple(str(i // 10) for i in range(100)), ("",) * 100)
    wide = table({"base": {0: scores(clustered, right)}})["base"].estimate
    ten = table({"base": {0: scores(keys(10), np.arange(10) < 4)}})["base"].estimate
    assert wide.high - wide.low == pytest.approx(ten.high - ten.low, rel=0.2)


def test_share_in_clusters_is_that_of_as_many_single_rows_as_tell_as_much() -> None:
    """The rows are Korn and Graubard's, from the half-width that clusters give."""
    rng = np.random.default_rng(3)
    right = (rng.random(20) < 0.6).repeat(3) ^ (rng.random(60) < 0.15)
    names = tuple(map(str, range(60)))
    clustered = Keys(names, tuple(str(i // 3) for i in range(60)), ("",) * 60)
    own = {0: scores(clustered, right)}
    found = infer(Group.of(own).runs, 20)
    assert found.low is not None
    assert found.high is not None
    rows = effective_rows(right.mean(), (found.high - found.low) / 2, 59, 60)
    assert rows < 50
    estimate = table({"base": own})["base"].estimate
    wanted = share(right.mean() * rows, rows)
    assert (estimate.low, estimate.high) == pytest.approx((wanted.low, wanted.high))


def test_shares_of_runs_that_answer_alike_keep_an_interval() -> None:
    shared, right = keys(30), np.arange(30) < 12
    made = {name: {s: scores(shared, right) for s in range(3)} for name in ("base", "own")}
    row = table(made)["own"]
    assert (row.difference.value, row.p, row.verdict) == (0, 1, "no difference shown")
    assert row.difference.high == pytest.approx(-row.difference.low)
    assert row.difference.high > 0.1


def test_equal_moves_are_shown_by_their_sign_and_have_no_interval() -> None:
    """Six differences of +0.444."""
    shared = keys(6)
    made = {"base": {0: scores(shared, np.linspace(0.1, 0.4, 6))},
            "own": {0: scores(shared, np.linspace(0.1, 0.4, 6) + 0.444)}}  # fmt: skip
    row = table(made)["own"]
    assert (row.difference.low, row.difference.high, row.verdict) == (None, None, "better")
    assert "sign test" in row.note


def test_verdict_that_the_family_undoes_says_so() -> None:
    shared = keys(60)
    made = {"base": {0: scores(shared, noise(0))}}
    made |= {f"v{i}": {0: scores(shared, 0.03 + noise(i))} for i in range(1, 40)}
    rows = list(table(made).values())
    clear = [r for r in rows if r.p is not None and r.p < 0.05]
    undone = [row for row in clear if row.shown_alone]
    assert undone
    for row in undone:
        assert row.verdict == "no difference shown"
        assert row.difference.low > 0 or row.difference.high < 0
        assert f"p {row.p:.2g} by itself, {row.p_holm:.2g} after Holm's adjustment over 39" in (
            row.note
        )


def test_slices_are_a_family_of_their_own() -> None:
    shared = keys(60, groups=6)
    made = {"base": {0: scores(shared, noise(0))}, "own": {0: scores(shared, 0.05 + noise(1))}}
    by_column = {n: {s: {COLUMN: o} for s, o in seeds.items()} for n, seeds in made.items()}
    rows = [row for row in adjusted(rows_of(by_column, "base")) if row.p is not None]
    whole, *parts = rows
    assert whole.p_holm == whole.p, "the whole stands alone"
    assert len(parts) == 6
    least = min(row.p for row in parts)
    assert min(row.p_holm for row in parts) == pytest.approx(6 * least)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.37])
@pytest.mark.parametrize("seeds", [1, 2])
def test_one_value_everywhere_is_no_evidence_and_it_is_said(value: float, seeds: int) -> None:
    shared, same = keys(60), np.full(60, value)
    variants = ("base", "own", "other")
    made = {name: dict.fromkeys(range(seeds), scores(shared, same)) for name in variants}
    found = table(made)
    for name in ("own", "other"):
        assert found[name].verdict == "all alike"
        told = f"every variant has {value:.4g}, whichever examples are taken"
        assert found[name].note.endswith(told)
    (note,) = notes(found.values())
    assert f"score on tasks ({value:.4g})" in note
    # As soon as one example of one variant differs, there is evidence.
    same[7] = 1 - value
    made["other"] = dict.fromkeys(range(seeds), scores(shared, same))
    found = table(made)
    assert {found[name].verdict for name in ("own", "other")} == {"no difference shown"}
    assert not list(notes(found.values()))


def test_no_family_of_tests_is_smaller_for_values_that_are_all_alike() -> None:
    """The adjustment counts them, so that no other verdict depends on what was found."""
    shared, same = keys(60), np.zeros(60)
    family = {
        name: {0: {COLUMN: scores(shared, noise(place)), ("hits", "tasks"): scores(shared, same)}}
        for place, name in enumerate(("base", "own"))
    }
    told = {row.metric: row for row in adjusted(rows_of(family, "base")) if row.group == "own"}
    assert told["hits"].verdict == "all alike"
    assert told["score"].p_holm == pytest.approx(min(1, 2 * told["score"].p))


def test_one_measurement_of_one_model_is_not_compared_with_itself() -> None:
    shared = keys(60)
    made = {"base": {0: scores(shared, noise(0), measured="abc")},
            "few-shot": {0: scores(shared, noise(0), measured="abc")},
            "again": {0: scores(shared, noise(0), measured="def")}}  # fmt: skip
    found = table(made)
    row = found["few-shot"]
    assert (row.verdict, row.difference, row.p) == ("same measurement", None, None)
    assert row.note == "same model, same rows"
    assert found["again"].verdict == "no difference shown"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "v2"}, "scorer"),
        ({"rows": "others"}, "same examples"),
        ({"judge": "another"}, "reward model"),
        ({"keys": keys(61)}, "same examples"),
    ],
)
def test_what_was_measured_otherwise_is_incomparable(change: dict[str, object], said: str) -> None:
    shared = keys(60)
    count = len(change["keys"].ids) if isinstance(change.get("keys"), Keys) else 60
    own = replace(scores(shared, 1 + noise(1, count)), **change)
    row = table({"base": {0: scores(shared, noise(0))}, "own": {0: own}})["own"]
    assert (row.verdict, row.difference) == ("incomparable", None)
    assert said in row.note


def test_figures_over_another_tokenizers_tokens_are_incomparable() -> None:
    shared = keys(60)
    nll, tokens = 9 + noise(0), np.full(60, 5.0)
    other = np.where(np.arange(60) == 7, 6.0, tokens)
    made = {
        name: {0: replace(scores(shared, nll), sample=Sample("perplexity", columns))}
        for name, columns in (
            ("base", {"nll": nll, "tokens": tokens}),
            ("own", {"nll": nll + 1 + noise(3), "tokens": tokens}),
            ("split", {"nll": nll + 1 + noise(3), "tokens": other}),
        )
    }
    found = table(made)
    assert (found["own"].verdict, found["split"].verdict) == ("better", "incomparable")
    assert "tokenizer" in found["split"].note


def test_preference_over_a_half_agrees_with_its_interval() -> None:
    for won in range(31):
        own = {0: scores(keys(30), np.arange(30) < won)}
        (row,) = adjusted([against_constant("own", COLUMN, own, 0.5)])
        assert (row.p < 0.05) is not (row.difference.low <= 0 <= row.difference.high)
        assert row.difference.low == pytest.approx(row.estimate.low - 0.5)


def judged(p: float | None, value: float = 0.5, **changes: object) -> Row:
    """A row of one comparison, as it comes from its test."""
    row = Row(
        group="own", metric="score", evaluation="tasks", slice=ALL, higher_is_better=True, unit="",
        n=9, clusters=9, seeds=1, estimate=Estimate(0.7), difference=Estimate(value), p=p,
        p_holm=None, detectable=None, level="checkpoint", verdict="",
    )  # fmt: skip
    return replace(row, **changes)


def test_p_at_the_level_shows_nothing_and_a_p_of_zero_stays_zero() -> None:
    level = 1 - CONFIDENCE
    at, below = (adjusted([judged(p)])[0] for p in (level, level * 0.99))
    assert (at.verdict, below.verdict) == ("no difference shown", "better")
    (zero,) = adjusted([judged(0.0, -0.5)])
    assert (zero.p_holm, zero.verdict) == (0.0, "worse")
    assert not at.note


def test_difference_without_a_test_shows_nothing_and_a_row_without_one_keeps_its_verdict() -> None:
    without, baseline = adjusted([
        judged(None), judged(None, difference=None, verdict="baseline"),
    ])  # fmt: skip
    assert (without.verdict, without.p_holm) == ("no difference shown", None)
    assert (baseline.verdict, baseline.p_holm) == ("baseline", None)


def test_only_rows_with_a_test_make_the_family_larger() -> None:
    many = [judged(0.02), judged(0.9), judged(None), judged(0.5, slice="part")]
    found = adjusted(many)
    assert [row.p_holm for row in found] == pytest.approx([0.04, 0.9, None, 0.5])
    (alone, *_) = adjusted([judged(0.03), judged(0.03), judged(0.9)])
    assert alone.verdict == "no difference shown"
    assert alone.note == "p 0.03 by itself, 0.09 after Holm's adjustment over 3 comparisons"


@pytest.mark.parametrize("which", ["base", "own"])
def test_every_seed_must_be_comparable_and_not_the_first_alone(which: str) -> None:
    """An encoder of the hub may have moved between the scores of two seeds."""
    shared = keys(20)
    made = {name: {s: scores(shared, noise(s, 20)) for s in range(3)} for name in ("base", "own")}
    made[which][2] = replace(made[which][2], version="v2")
    row = table(made)["own"]
    assert (row.verdict, row.note) == ("incomparable", "not the same scorer, or its version")


def test_rows_say_what_they_are_of_and_seeds_of_their_own_are_not_paired() -> None:
    """Seeds 4 to 7 differ just as seeds 0 to 3 do, by chance: nothing says they belong together."""
    shared, offsets = keys(60), (-3.0, 0.0, 3.0, 5.0)
    found = table({
        "base": {s: scores(shared, offsets[s] + noise(s)) for s in range(4)},
        "same": {s: scores(shared, offsets[s] + 0.5 + noise(9 + s)) for s in range(4)},
        "other": {s + 4: scores(shared, offsets[s] + 0.5 + noise(9 + s)) for s in range(4)},
    })  # fmt: skip
    same, other = found["same"], found["other"]
    assert (same.metric, same.evaluation, same.slice, same.n, same.seeds) == (
        *COLUMN, ALL, 60, 4,
    )  # fmt: skip
    assert (same.verdict, other.verdict) == ("better", "no difference shown")
    assert (same.note, other.note) == ("", "")
    assert same.difference is not None
    assert other.difference is not None
    assert same.difference.value == pytest.approx(other.difference.value)


@pytest.mark.parametrize(
    ("value", "even", "verdict"),
    [(0.8, 0.5, "better"), (0.2, 0.5, "worse"), (0.5, 0.5, "no difference shown"),
     (0.8, None, "incomparable")],
)  # fmt: skip
def test_a_metric_that_compares_with_the_baseline_itself_is_held_against_its_even_value(
    value: float, even: float | None, verdict: str
) -> None:
    """The baseline has no value there: it is not compared with itself."""
    examples = keys(200)
    values = (np.arange(200) % 10 < 10 * value).astype(float)
    preferred = scores(examples, values, even=even)
    other = scores(examples, np.linspace(0, 1, 200))
    both: AllScores = {
        "base": {0: {("other", "tasks"): other}},
        "tuned": {0: {COLUMN: preferred, ("other", "tasks"): other}},
    }
    (row,) = (row for row in adjusted(rows_of(both, "base")) if row.metric == "score")
    assert row.group == "tuned"
    assert row.verdict == verdict
    if even is not None:
        assert row.difference is not None
        assert row.difference.value == pytest.approx(value - even, abs=0.02)


@pytest.mark.parametrize(
    ("verdict", "p", "change", "fell"),
    [
        ("worse", 0.001, -0.1, True),
        ("worse", None, None, True),
        ("better", 0.001, 0.1, False),
        ("no difference shown", 0.04, -0.1, True),  # by itself, before the family is counted
        ("no difference shown", 0.04, 0.1, False),
        ("no difference shown", 0.06, -0.1, False),
        ("no difference shown", None, -0.1, False),
        ("incomparable", None, None, False),
    ],
)
@pytest.mark.parametrize("up", [True, False])
def test_a_row_fell_where_its_own_p_shows_it_worse(
    verdict: str, p: float | None, change: float | None, fell: bool, up: bool
) -> None:
    difference = None if change is None else Estimate(change if up else -change)
    made = made_up_row("one", "m", 0.5, verdict=verdict, p=p, higher_is_better=up)
    assert replace(made, difference=difference).fell is fell
