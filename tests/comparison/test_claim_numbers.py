"""The numbers behind a claim: which contrast it is, of which runs, in which unit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.comparison.aligned import aligned, scores_of
from harness.comparison.claims import Amount, CostQuestion, Question, decide
from harness.comparison.differences import contrast_of
from harness.comparison.groups import Group
from harness.comparison.intervals import infer
from harness.comparison.scores import Keys, Scores
from harness.suite.claims import parse_claim

RNG = np.random.default_rng(5)


def run(values: object) -> Scores:
    column = np.asarray(values, float)
    return scores_of([str(i) for i in range(len(column))], {"value": column})


def group(*offsets: float, first: int = 0, count: int = 40) -> Group:
    """One run for each offset, with seeds from `first` on."""
    return Group.of(
        {first + i: run(RNG.normal(offset, 0.1, count)) for i, offset in enumerate(offsets)}
    )


def test_seeds_of_one_name_are_paired_and_others_are_not() -> None:
    one, base = group(0.1, 0.5, 0.3), group(0.0, 0.4, 0.2)
    paired = infer(one.runs - base.runs, one.independent)
    assert contrast_of(one, base).interval(0.05) == pytest.approx((paired.low, paired.high))
    other = group(0.1, 0.5, 0.3, first=7)
    apart = infer(other.runs, other.independent, base.runs)
    assert contrast_of(other, base).interval(0.05) == pytest.approx((apart.low, apart.high))
    single = group(0.0)
    alone = infer(replace(one.runs, points=one.runs.points - single.runs.points,
                          moves=one.runs.moves - single.runs.moves), one.independent)  # fmt: skip
    assert contrast_of(one, single).interval(0.05) == pytest.approx((alone.low, alone.high))


@pytest.mark.parametrize("ratio", [0.5, 1.1])
def test_a_share_of_right_answers_is_no_count_of_rows_that_changed(ratio: float) -> None:
    right, before = np.arange(60) < 40, np.arange(60) < 30
    one, base = (Group.of({0: run(values)}) for values in (right, before))
    contrast = contrast_of(one, base, ratio)
    assert contrast.value == pytest.approx(right.mean() - ratio * before.mean())
    assert contrast_of(one, base).value == pytest.approx(right.mean() - before.mean())


def test_looks_that_are_repeated_are_wider_for_right_answers_too() -> None:
    right, before = np.arange(60) < 40, np.arange(60) < 30
    one, base = (Group.of({0: run(values)}) for values in (right, before))
    low, high = contrast_of(one, base).interval(0.05)
    earliest, latest = contrast_of(one, base, looks="repeated").interval(0.05)
    assert earliest < low < high < latest


def in_families(names: list[str], families: list[str], values: np.ndarray) -> Scores:
    keys = Keys(tuple(names), tuple(names), tuple(families))
    return replace(scores_of(names, {"value": values}), keys=keys)


def test_examples_in_another_order_keep_their_families() -> None:
    names, families = ["a", "b", "c", "d"], ["x", "x", "y", "z"]
    first = in_families(names, families, np.arange(4.0))
    other = in_families(names[::-1], families[::-1], np.arange(4.0)[::-1])
    for one, two in ((first, other), (other, first)):
        left, right, note = aligned({0: one}, {0: two}, shared=False)
        keys = left[0].keys
        assert dict(zip(keys.ids, keys.groups, strict=True)) == dict(
            zip(names, families, strict=True)
        )
        assert right[0].keys == keys
        assert not note
        same = [each[0].sample.columns["value"].tolist() for each in (left, right)]
        assert same[0] == same[1] == [float(names.index(name)) for name in keys.ids]


def cost(line: str, one: Amount | None, other: Amount | None, **changes: str) -> str:
    claim = parse_claim(line)
    question = CostQuestion(claim, "a", "b", "train_seconds", one, other, **changes)
    return decide([question])[0].verdict


@pytest.mark.parametrize("missing", [0, 1])
def test_a_cost_that_was_not_measured_is_incomparable(missing: int) -> None:
    sides: list[Amount | None] = [Amount(1.0, 1.0, 1.0), Amount(2.0, 2.0, 2.0)]
    line = "a at_most b on train_seconds"
    assert cost(line, *sides) == "supported"
    assert cost(line, *sides[::-1]) == "refuted"
    assert cost(line, *sides, failed="it ran out of memory") == "failed"
    sides[missing] = None
    assert cost(line, *sides) == "incomparable"


def test_ranges_of_a_cost_that_overlap_decide_nothing() -> None:
    line = "a at_most b on train_seconds"
    assert cost(line, Amount(1.0, 0.9, 1.1), Amount(1.05, 1.0, 1.2)) == "inconclusive"
    assert cost(line, Amount(1.0, 0.9, 1.1), Amount(1.15, 1.1, 1.2)) == "supported"


def test_what_the_adjustment_undoes_is_told_and_what_it_leaves_is_not() -> None:
    """Of ten claims one has a p of about 0.02, which is not enough among ten."""
    values = RNG.normal(0, 1.0, 100)
    near = values - values.mean() + 2.35 * values.std(ddof=1) / 10
    asked = [("a better b on m", near)] + [("a better b on m", values - values.mean())] * 9
    questions = [
        Question(parse_claim(line), "a", "b", "m", "", {0: run(one)}, {0: run(np.zeros(100))})
        for line, one in asked
    ]
    first, *others = decide(questions)
    assert first.verdict == "inconclusive"
    assert "by itself" in first.reason
    assert first.p is not None
    assert first.p < 0.05 < first.p_adjusted
    assert not any("by itself" in other.reason for other in others)


def test_a_verdict_has_the_unit_of_its_metric() -> None:
    one, other = (replace(run(RNG.normal(size=20)), unit="bits") for _ in range(2))
    asked = Question(parse_claim("a better b on m"), "a", "b", "m", "", {0: one}, {0: other})
    assert decide([asked])[0].unit == "bits"
    lost = Question(parse_claim("a better b on m"), "a", "b", "m", "", {}, {}, failed="lost")
    assert (decide([lost])[0].unit, decide([lost])[0].verdict) == ("", "failed")
