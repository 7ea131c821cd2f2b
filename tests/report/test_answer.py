"""The answer's sentences never contradict the verdicts that stand below them."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from harness.comparison import Comparison, Row
from harness.comparison.result import Estimate, Measured, Tax
from harness.report import answer
from tests.comparisons import comparison, row, variant

VERDICTS = {  # how a row is judged beside its baseline: verdict, p, difference
    "better": ("better", 0.001, 0.05),
    "worse": ("worse", 0.001, -0.05),
    "better alone": ("no difference shown", 0.03, 0.05),
    "worse alone": ("no difference shown", 0.03, -0.05),
    "open": ("no difference shown", 0.4, -0.01),
    "untested": ("no difference shown", None, -0.01),
    "same": ("same measurement", None, None),
}
REACH = {  # a row's own figure beside the best one's of 0.4
    "overlaps": Estimate(0.39, 0.3, 0.5),
    "equal": Estimate(0.4, 0.3, 0.5),
    "below": Estimate(0.2, 0.1, 0.25),
    "no interval": Estimate(0.39),
    "equal without interval": Estimate(0.4),
}
BEST = Estimate(0.4, 0.32, 0.48)


def judged(group: str, how: str, estimate: Estimate, *, up: bool) -> Row:
    verdict, p, change = VERDICTS[how]
    side = None if change is None else Estimate(change if up else -change)
    made = row(group, "rougeL", 0.0, verdict=verdict, p=p, p_holm=p, higher_is_better=up)
    return replace(made, estimate=turned(estimate, up), difference=side)


def turned(found: Estimate, up: bool) -> Estimate:
    """The same figure of a metric of which less is better."""
    if up:
        return found
    low, high = (None if end is None else 1 - end for end in (found.high, found.low))
    return Estimate(1 - found.value, low, high)


def baseline(group: str, estimate: Estimate, *, up: bool) -> Row:
    made = row(group, "rougeL", 0.0, verdict="baseline", p=None, higher_is_better=up)
    return replace(made, estimate=turned(estimate, up))


def of(*rows: Row, dear: str, **changes: object) -> Comparison:
    """The rows as a comparison in which one variant costs more than all others."""
    variants = tuple(variant(r.group, 90.0 if r.group == dear else 10.0) for r in rows)
    return comparison(rows=rows, variants=variants, **changes)


def called_as_good(told: str) -> str | None:
    by = r"(?:interval|estimate|paired difference from it, \S+(?: \[[^]]*\]| \(no interval\))?)"
    found = re.search(rf"Not shown to be worse by its {by}, .*?, is (\S+) \(rougeL", told)
    return found and found[1]


@pytest.mark.parametrize("up", [True, False], ids=["more is better", "less is better"])
@pytest.mark.parametrize("reach", REACH)
@pytest.mark.parametrize("how", VERDICTS)
def test_nobody_is_as_good_as_the_baseline_whom_its_difference_sets_apart(
    how: str, reach: str, up: bool
) -> None:
    one, best = judged("one", how, REACH[reach], up=up), baseline("full", BEST, up=up)
    told = answer(of(best, one, dear="full", baseline="full"))
    if one.set_apart:
        assert called_as_good(told) is None, told
    elif reach in ("overlaps", "equal", "equal without interval"):
        assert called_as_good(told) == "one", told
    if how == "better":
        assert "No variant beats" not in told
        assert "one did better" in told


@pytest.mark.parametrize("up", [True, False], ids=["more is better", "less is better"])
@pytest.mark.parametrize("reach", REACH)
@pytest.mark.parametrize("how", VERDICTS)
def test_the_baseline_is_not_as_good_as_a_best_that_is_set_apart_from_it(
    how: str, reach: str, up: bool
) -> None:
    one, base = judged("one", how, BEST, up=up), baseline("full", REACH[reach], up=up)
    # Of equal estimates the first is called the best.
    told = answer(of(one, base, dear="one", baseline="full"))
    if one.set_apart:
        assert called_as_good(told) is None, told
    elif reach in ("overlaps", "equal", "equal without interval"):
        assert called_as_good(told) == "full", told


@pytest.mark.parametrize(("best", "other"), list(itertools.product(VERDICTS, VERDICTS)))
def test_who_stands_otherwise_beside_the_baseline_is_not_called_as_good(
    best: str, other: str
) -> None:
    rows = (
        judged("best", best, BEST, up=True),
        judged("other", other, REACH["overlaps"], up=True),
        baseline("base", REACH["below"], up=True),
    )
    found = called_as_good(told := answer(of(*rows, dear="best", baseline="base")))
    assert found in (None, "other"), told
    if best == "better" and other != "better":
        assert found is None
        assert "No other whose interval reaches it is shown better than the baseline too" in told
    if rows[1].fell and not rows[0].fell:
        assert found is None
    if best == other:
        assert found == "other"


@pytest.mark.parametrize("how", VERDICTS)
def test_a_start_or_an_unmerged_twin_that_is_set_apart_is_not_as_good(how: str) -> None:
    """These are compared on the same examples too, in tables of their own."""
    rows = (
        judged("best", "better", BEST, up=True),
        judged("other", "better", REACH["overlaps"], up=True),
        baseline("base", REACH["below"], up=True),
    )
    plain = of(*rows, dear="best", baseline="base")
    assert called_as_good(answer(plain)) == "other"
    for one, against in (("best", "other"), ("other", "best")):
        own = judged(one, how, BEST, up=True)
        taxed = replace(plain, taxes=(Tax(one, against, (Measured("answers", own),)),))
        twins = tuple(
            replace(v, merged_from=against) if v.group == one else v for v in plain.variants
        )
        for made in (taxed, replace(plain, merged=(own,), variants=twins)):
            told = answer(made)
            assert called_as_good(told) == (None if own.set_apart else "other")
            if own.set_apart:
                assert "Nothing else is known to be as good. " in told


@pytest.mark.parametrize("reach", REACH)
@pytest.mark.parametrize("how", VERDICTS)
def test_who_is_as_good_is_told_by_the_paired_difference_from_the_best(
    how: str, reach: str
) -> None:
    """Intervals that overlap hide a paired difference, and a paired one may be none where intervals
    do not meet."""
    rows = (
        judged("best", "better", BEST, up=True),
        judged("other", "better", REACH[reach], up=True),
        baseline("base", REACH["below"], up=True),
    )
    apart = judged("base", "worse", REACH["below"], up=True)
    beside = (judged("other", how, REACH[reach], up=True), apart)
    told = answer(of(*rows, dear="best", baseline="base", best="best", beside_best=beside))
    if beside[0].p is None:  # as if the two had not been compared
        plain = answer(of(*rows, dear="best", baseline="base"))
        assert called_as_good(told) == called_as_good(plain)
    elif beside[0].set_apart:
        assert called_as_good(told) is None
        assert "On the same examples every other differs from it. " in told
    else:
        assert called_as_good(told) == "other"
        assert "by its paired difference from it, \u22120.01" in told


def test_a_difference_of_another_metric_rows_or_slice_sets_nobody_apart() -> None:
    made = of(
        baseline("full", BEST, up=True),
        judged("one", "open", REACH["overlaps"], up=True),
        dear="full",
        baseline="full",
    )
    worse = judged("one", "worse", REACH["below"], up=True)
    elsewhere = (
        replace(worse, metric="bleu"),
        replace(worse, evaluation="general"),
        replace(worse, slice="numbers"),
    )
    assert called_as_good(answer(replace(made, rows=(*made.rows, *elsewhere)))) == "one"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (["worse", "open", "worse alone"], "On one other measure of forgetting no change is shown"),
        (["worse", "open", "open"], "On 2 other measures of forgetting no change is shown"),
        (["open", "open", "open"], "On 2 other measures of forgetting no change is shown"),
        (["worse", "worse", "worse"], ""),
    ],
)
def test_of_many_measures_of_forgetting_those_are_told_that_moved(
    how: list[str], told: str
) -> None:
    best = judged("best", "better", BEST, up=True)
    base = baseline("base", REACH["below"], up=True)
    kept = [
        replace(judged("best", change, BEST, up=True), metric=f"kept-{i}", forgetting=True)
        for i, change in enumerate(how)
    ]
    said = answer(of(best, base, *kept, dear="best", baseline="base"))
    moved = [i for i, change in enumerate(how) if change != "open"] or [0]
    assert [i for i in range(3) if f"kept-{i} ↑ of best" in said] == moved
    assert ("no change is shown" in said.split(" ↑ of best")[-1]) is (told != "")
    assert told in said


@pytest.mark.parametrize(
    ("other", "words"),
    [("below", "does best"), ("overlaps", "has the best estimate"),
     ("no interval", "has the best estimate")],
)  # fmt: skip
def test_the_best_is_set_apart_only_from_intervals_that_are_known_to_lie_below(
    other: str, words: str
) -> None:
    base = baseline("base", REACH["below"], up=True)
    rows = (base, judged("top", "better", BEST, up=True),
            judged("other", "open", REACH[other], up=True))  # fmt: skip
    assert f"top {words} on" in answer(of(*rows, dear="top"))


@pytest.mark.parametrize(
    ("seeds", "words"), [(1, "1 seed: about this checkpoint, not the method"), (2, "2 seeds")]
)
def test_only_one_seed_is_about_a_checkpoint_alone(seeds: int, words: str) -> None:
    base = baseline("base", REACH["below"], up=True)
    best = replace(judged("top", "better", BEST, up=True), seeds=seeds)
    told = answer(of(base, best, dear="top"))
    assert words in told
    assert ("about this checkpoint" in told) is (seeds == 1)


def test_answer_begins_with_test_rows_that_were_trained_on() -> None:
    clean = comparison()
    pair = {"pair": "mine/train in mine/test", "test_rows": 40, "overlap": 0}
    for exact, told in ((3, False), (4, True)):
        leaking = replace(clean, contamination=({**pair, "exact": exact},))
        assert answer(leaking).startswith(f"Trained on the test: {exact} of 40 test rows") is told
        assert answer(leaking).endswith(answer(clean))
