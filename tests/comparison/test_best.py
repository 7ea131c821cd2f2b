"""The headline metric, its best variant, and the others' paired differences from that one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.comparison.best import beside_best, best_of, headline
from harness.comparison.result import Estimate
from harness.comparison.rows import AllScores, rows_of
from harness.comparison.scores import Keys, Scores
from harness.comparison.statistics import Sample

NAMES = tuple(map(str, range(40)))
HARD = np.linspace(0, 1, 40)
"""How good an answer to each example is: the examples differ far more than the variants do."""


def scored(values: np.ndarray, *, up: bool = True, forgetting: bool = False) -> Scores:
    return Scores(
        Keys(NAMES, NAMES, ("",) * 40), Sample("mean", {"value": values}), up, "", "v1", "rows",
        forgetting=forgetting,
    )  # fmt: skip


def variants(metric: str = "rougeL", **changes: float) -> AllScores:
    """One run of each variant: the examples' values and a constant, with a little noise."""
    noise = np.random.default_rng(0).normal(0, 0.01, (len(changes), 40))
    values = zip(changes.items(), noise, strict=True)
    return {
        name: {0: {(metric, "tasks"): scored(HARD + change + own)}}
        for (name, change), own in values
    }


def test_a_paired_difference_tells_apart_what_overlapping_intervals_do_not() -> None:
    scores = variants(base=0.0, best=0.3, near=0.2995, apart=0.25)
    rows = rows_of(scores, "base")
    best, beside = beside_best(scores, rows)
    assert best == "best"
    figures = {row.group: row for row in beside}
    assert set(figures) == {"base", "near", "apart"}
    own = {row.group: row for row in rows}
    for name in ("near", "apart"):
        assert own[name].estimate.meets(own["best"].estimate)
        assert figures[name].difference is not None
        wanted = own[name].estimate.value - own["best"].estimate.value
        assert figures[name].difference.value == pytest.approx(wanted)
    assert (figures["apart"].p or 1) < 0.001
    assert (figures["near"].p or 0) > 0.05
    # What is as good for less is chosen among those that these rows do not set apart.
    assert {name for name, row in figures.items() if row.set_apart} == {"base", "apart"}


def test_of_equal_estimates_the_first_is_best_and_less_is_best_where_less_is_better() -> None:
    values = variants(one=0.1, two=0.1, three=0.4)
    same = {"a": values["one"], "b": values["one"], "c": values["three"]}
    assert beside_best({"a": same["a"], "b": same["b"]}, rows_of(same, "a")[:2])[0] == "a"
    falling = {
        name: {0: {("loss", "tasks"): scored(HARD + change, up=False)}}
        for name, change in (("a", 0.2), ("b", 0.1))
    }
    assert best_of(rows_of(falling, "a")).group == "b"


def test_the_headline_is_of_what_was_learnt() -> None:
    both = {
        ("general", "text"): scored(HARD, forgetting=True),
        ("loss", "tasks"): scored(HARD, up=False),
        ("bleu", "tasks"): scored(HARD),
        ("exact_match", "tasks"): scored(HARD),
    }
    for gone, wanted in (("", "exact_match"), ("exact_match", "bleu"), ("bleu", "loss"),
                         ("loss", "general"), ("general", None)):  # fmt: skip
        both = {column: own for column, own in both.items() if column[0] != gone}
        found = headline(rows_of({"base": {0: both}}, "base")) if both else headline([])
        assert (found and found[0]) == wanted
    assert beside_best({}, []) == ("", ())


def test_a_variant_without_a_number_or_beyond_comparison_is_best_only_beside_no_other() -> None:
    rows = rows_of(variants(a=0.1, b=0.2, c=0.3), "a")
    none = [replace(row, estimate=Estimate(float("nan"))) for row in rows]
    assert best_of([none[0], rows[1], none[2]]).group == "b"
    assert best_of(none).group == "a"
    apart = [replace(row, verdict="incomparable") for row in rows]
    assert best_of([rows[0], rows[1], apart[2]]).group == "b"
    assert best_of(apart).group == "c"


def test_the_best_is_best_on_the_headline_metric_over_all_examples() -> None:
    """Another metric has larger figures, and so has one family of the examples."""
    keys = Keys(NAMES, NAMES, tuple("xy"[i < 4] for i in range(40)))
    figures = {
        "base": (0.0, 0.0),
        "even": (0.3, 0.3),
        "one family": (0.0, 2.0),
        "other": (0.1, 0.1),
    }
    scores = {
        name: {0: {
            ("rougeL", "tasks"): replace(
                scored(HARD + np.where(np.arange(40) < 4, few, most)), keys=keys
            ),
            ("length", "tasks"): replace(scored(HARD + 9 * (name == "other")), keys=keys),
        }}
        for name, (most, few) in figures.items()
    }  # fmt: skip
    best, beside = beside_best(scores, rows_of(scores, "base"))
    assert best == "even"
    assert {(row.group, row.metric, row.slice) for row in beside} == {
        (name, "rougeL", "") for name in ("base", "one family", "other")
    }
