"""Few examples, few runs: chance makes them equal, and no figure may rest on that."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from harness.comparison import binomial
from harness.comparison.result import Row
from harness.comparison.rows import rows_of
from harness.comparison.scores import Keys, Scores
from harness.comparison.statistics import Sample
from harness.comparison.verdicts import adjusted

Answers = Sequence[float]


def compared(own: Sequence[Answers], base: Sequence[Answers], clusters: str = "") -> Row:
    """The row of training runs against the baseline's; each run is its examples' values.

    Args:
        clusters: a letter an example; by itself each stands alone.
    """
    names = tuple(map(str, range(len(own[0]))))
    keys = Keys(names, tuple(clusters) or names, names)

    def scores(run: Answers) -> Scores:
        sample = Sample("mean", {"value": np.asarray(run, float)})
        return Scores(keys, sample, True, "", "v1", "rows")

    def runs(values: Sequence[Answers]) -> dict[int, dict[tuple[str, str], Scores]]:
        return {seed: {("right", "tasks"): scores(run)} for seed, run in enumerate(values)}

    rows = adjusted(rows_of({"base": runs(base), "own": runs(own)}, "base"))
    return next(row for row in rows if row.group == "own" and not row.slice)


def mean_of(runs: Sequence[Answers]) -> float:
    return float(np.mean(runs))


@pytest.mark.parametrize(
    ("own", "base", "clusters"),
    [
        ([(1, 0), (0, 1)], [(0, 0)], ""),  # each example is right in one run
        ([(1, 0, 1, 0), (0, 1, 0, 1)], [(0,) * 4, (0,) * 4], ""),
        ([(1, 0, 1, 0)], [(0,) * 4], "aabb"),  # and in one turn of each conversation
        ([(1, 0, 1, 0)], [(0, 1, 0, 1)], "aabb"),  # for another one that is lost
        ([(1, 0, 1, 1), (1, 0, 0, 0)], [(0, 1, 1, 1), (0, 1, 0, 0)], "aabb"),
    ],
)
def test_examples_that_cancel_each_other_do_not_move_alike(
    own: list[Answers], base: list[Answers], clusters: str
) -> None:
    row = compared(own, base, clusters)
    assert row.difference.value == pytest.approx(mean_of(own) - mean_of(base))
    assert row.difference.low is None or np.isfinite(row.difference.low)
    assert row.verdict == "no difference shown"


def test_difference_is_that_of_the_means_whatever_few_examples_say() -> None:
    """Of every outcome of two runs of two examples, and one run in two conversations."""
    outcomes = list(itertools.product((0.0, 1.0), repeat=2))
    for first, second, other in itertools.product(outcomes, repeat=3):
        row = compared([first, second], [other])
        expected = mean_of([first, second]) - mean_of([other])
        assert row.difference.value == pytest.approx(expected), (first, second, other)
    for own, other in itertools.product(itertools.product((0.0, 1.0), repeat=4), repeat=2):
        row = compared([own], [other], "aabb")
        assert row.difference.value == pytest.approx(mean_of([own]) - mean_of([other]))
        assert row.difference.low is None or row.difference.low <= row.difference.value


def test_runs_that_are_equal_in_pairs_differ_nowhere() -> None:
    row = compared([(1, 0, 1), (0, 0, 1)], [(1, 0, 1), (0, 0, 1)])
    assert (row.difference.value, row.p) == (0.0, 1.0)
    assert row.difference.low < 0 < row.difference.high


def test_shares_differ_by_no_more_than_all() -> None:
    """Two runs tell little, but not that a share may fall by six wholes."""
    row = compared([(1,) * 8, (0,) * 8], [(0,) * 8])
    assert (row.difference.low, row.difference.high) == (-1.0, 1.0)


def test_runs_that_the_variant_lacks_are_not_in_its_difference_and_it_is_said() -> None:
    row = compared([(1, 0, 1, 1), (1, 1, 1, 1)], [(0, 0, 1, 0), (0, 0, 0, 1), (1, 1, 1, 1)])
    assert row.difference.value == pytest.approx(mean_of([(1, 0, 1, 1), (1, 1, 1, 1)]) - 0.25)
    assert "against the baseline's seeds 0 and 1 alone" in row.note


@pytest.mark.parametrize(
    ("aggregate", "columns", "least", "most"),
    [
        ("mean", {"value": [1.0, 1.0, 0.9, 0.2]}, 0.0, 1.0),
        (
            "perplexity",
            {"nll": [0.1, 9.0, 0.2, 0.4], "tokens": [3.0, 3.0, 3.0, 2.0]},
            1.0,
            math.inf,
        ),
        (
            "ratio",
            {"numerator": [1.0, 2.0, 3.0, 1.0], "denominator": [4.0, 2.0, 3.0, 1.0]},
            0.0,
            1.0,
        ),
    ],
)
def test_no_interval_holds_what_a_metric_cannot_be(
    aggregate: str, columns: dict[str, list[float]], least: float, most: float
) -> None:
    names, counted = ("a", "b", "c", "d"), next(iter(columns))

    def run(times: float) -> dict[tuple[str, str], Scores]:
        made = {name: np.asarray(own) for name, own in columns.items()}
        sample = Sample(aggregate, {**made, counted: made[counted] * times})
        keys = Keys(names, names, ("",) * 4)
        bounds = (least, most)
        return {("m", "e"): Scores(keys, sample, True, "", "v1", "rows", bounds=bounds)}

    rows = rows_of({"base": {0: run(1.0), 1: run(0.3)}, "own": {0: run(0.9), 1: run(0.2)}}, "base")
    for row in rows:
        assert least <= row.estimate.low <= row.estimate.value <= row.estimate.high <= most
    assert rows[1].difference.low >= least - most
    assert rows[1].difference.high <= most - least


@pytest.mark.parametrize("right", [0, 3, 20])
def test_a_share_has_one_interval_whether_its_bounds_are_declared_or_not(right: int) -> None:
    names = tuple(map(str, range(20)))
    sample = Sample("mean", {"value": np.arange(20.0) < right})
    rows = []
    for bounds in ((-math.inf, math.inf), (0.0, 1.0)):
        own = Scores(Keys(names, names, names), sample, True, "", "v1", "rows", bounds=bounds)
        rows.append(rows_of({"base": {0: {("m", "e"): own}}}, "base")[0])
    assert rows[0].estimate == rows[1].estimate
    assert rows[0].estimate == binomial.share(right, 20)


def test_none_of_another_scale_is_no_share() -> None:
    """Self-BLEU goes to 100: of twenty zeros nobody knows that its mean is below 0.2."""
    names = tuple(map(str, range(20)))
    sample = Sample("mean", {"value": np.zeros(20)})
    own = Scores(Keys(names, names, names), sample, False, "", "v1", "rows", bounds=(0.0, 100.0))
    (row,) = (row for row in rows_of({"base": {0: {("m", "e"): own}}}, "base") if not row.slice)
    assert row.estimate.low is None


@pytest.mark.parametrize("seeds", [1, 2])
def test_ones_beside_other_numbers_are_no_shares(seeds: int) -> None:
    """Ratings that happen to be 1 throughout: their difference from others is not cut at 1."""
    row = compared([(1, 1, 1, 1)] * seeds, [(4, 5, 3, 5)] * seeds)
    assert row.difference.low < row.difference.value == -3.25 < row.difference.high < 0


@pytest.mark.parametrize(
    ("size", "said"),
    [(1e-150, "every example is alike"), (1e120, "it is too large"), (1e200, "it is too large")],
)
def test_sizes_that_break_arithmetic_are_told_without_a_warning(size: float, said: str) -> None:
    row = compared([tuple(size * np.arange(1.0, 5))], [(size, 0, 0, size)])
    assert row.difference.low is None
    assert said in row.note


def test_the_perplexity_of_a_model_that_diverged_is_told_without_a_warning() -> None:
    names = ("a", "b", "c")

    def run(nll: float) -> dict[tuple[str, str], Scores]:
        columns = {"nll": nll * np.asarray([1.0, 2.0, 3.0]), "tokens": np.ones(3)}
        sample = Sample("perplexity", columns)
        return {("ppl", "e"): Scores(Keys(names, names, ("",) * 3), sample, False, "", "v1")}

    rows = rows_of(
        {"base": {0: run(1.0)}, "own": {0: run(2000.0)}, "other": {0: run(200.0)}}, "base"
    )
    assert [row.estimate.low for row in rows[1:]] == [None, None]
    assert rows[1].estimate.value == math.inf
