"""The runs of a variant: what their metric can be, which belong together, which rows changed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from harness.comparison.aligned import scores_of
from harness.comparison.claims import Question, decide
from harness.comparison.groups import (
    Group,
    changed_rows,
    common_change,
    effective_rows,
    partner,
)
from harness.comparison.intervals import Inference, infer
from harness.comparison.rows import rows_of
from harness.comparison.scores import Scores
from harness.suite.claims import parse_claim


def run(values: object, size: int = 1, **changes: object) -> Scores:
    """A run on clusters of so many examples."""
    column = np.asarray(values, float)
    ids = [str(i) for i in range(len(column))]
    clusters = None if size == 1 else [str(i // size) for i in range(len(column))]
    return scores_of(ids, {"value": column}, clusters=clusters, **changes)


def group(*runs: Scores, first: int = 0) -> Group:
    return Group.of({first + place: one for place, one in enumerate(runs)})


RIGHT, WRONG, HALF = np.ones(6), np.zeros(6), np.full(6, 0.5)
MIXED = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])


def test_a_group_has_the_metric_and_the_moves_of_each_run_in_order() -> None:
    made = group(run(RIGHT), run(MIXED), run(HALF), first=4)
    assert made.runs.points.tolist() == [1.0, 0.5, 0.5]
    assert made.runs.moves[1] == pytest.approx(MIXED - 0.5)
    assert made.first is made.scores[4]
    assert made.independent == 6
    assert group(run(MIXED, 2)).independent == 3
    chosen = made.only([6, 4])
    assert list(chosen.scores) == [6, 4]
    assert chosen.runs.points.tolist() == [0.5, 1.0]
    assert (chosen.runs.moves == made.runs.moves[[2, 0]]).all()


def test_examples_that_a_metric_does_not_count_are_no_part_of_its_group() -> None:
    columns = {"hits": np.array([1.0, 0.0, 1.0]), "of": np.array([1.0, 0.0, 1.0])}
    made = Group.of({0: scores_of("abc", columns, aggregate="share")})
    assert made.first.keys.ids == ("a", "c")
    assert made.independent == 2


def counting(hits: list[int], of: list[int]) -> Scores:
    return scores_of("abcd", {"hits": np.array(hits, float), "of": np.array(of, float)},
                     aggregate="share")  # fmt: skip


def test_runs_that_count_other_examples_keep_their_metric_and_have_all_examples() -> None:
    """A plugin's scorer may mark examples by their answers."""
    made = group(counting([1, 0, 1, 0], [1, 0, 1, 1]), counting([1, 1, 0, 0], [1, 1, 1, 1]))
    assert made.first.keys.ids == ("a", "b", "c", "d")
    assert made.runs.points == pytest.approx([2 / 3, 1 / 2])
    assert made.runs.moves.shape == (2, 4)


def test_variants_that_count_other_examples_are_not_compared() -> None:
    one, other = (counting([1, 0, 1, 0], of) for of in ([1, 0, 1, 1], [1, 1, 1, 0]))
    rows = rows_of({"b": {0: {("m", "e"): one}}, "v": {0: {("m", "e"): other}}}, "b")
    assert [row.verdict for row in rows] == ["baseline", "incomparable"]
    claim = parse_claim("v better b on m")
    (verdict,) = decide([Question(claim, "v", "b", "m", "e", {0: other}, {0: one})])
    assert (verdict.verdict, verdict.reason) == ("incomparable", rows[1].note)
    assert "examples" in verdict.reason


@pytest.mark.parametrize(
    ("runs", "bounds", "binary"),
    [
        ([run(RIGHT), run(MIXED)], (0.0, 1.0), True), ([run(MIXED), run(HALF)], None, False),
        ([run(HALF), run(MIXED)], None, False), ([run(MIXED, bounds=(0.0, 1.0))], (0.0, 1.0), True),
        ([run(MIXED, bounds=(0.0, 100.0))], (0.0, 100.0), False),
        ([run(MIXED, bounds=(-math.inf, 1.0))], (-math.inf, 1.0), False),
        ([run(MIXED, unit="points")], None, False),
        ([run(MIXED), run(MIXED, unit="points")], None, False),
    ],
)  # fmt: skip
def test_a_metric_is_a_share_only_if_every_run_says_right_or_wrong_on_that_scale(
    runs: list[Scores], bounds: tuple[float, float] | None, binary: bool
) -> None:
    made = group(*runs)
    assert made.bounds == (bounds or (-math.inf, math.inf))
    values = made.binary
    assert (values is not None) is binary
    if values is not None:
        wanted = [one.sample.columns["value"].tolist() for one in runs]
        assert [each.tolist() for each in values] == wanted


@pytest.mark.parametrize(
    ("runs", "plain"),
    [([run(MIXED)], True), ([run(MIXED, 2)], False), ([run(MIXED), run(RIGHT)], False)],
)
def test_only_one_run_on_single_examples_is_plain(runs: list[Scores], plain: bool) -> None:
    assert group(*runs).plain is plain


@pytest.mark.parametrize(
    ("ours", "theirs", "kept", "paired"),
    [
        ([0, 1], [0, 1], [0, 1], True), ([1, 0], [0, 1, 2], [1, 0], True),
        ([0, 1, 2], [0, 1], [0, 1], False), ([0, 3], [0, 1], [0, 1], False),
        ([0], [0, 1], [0, 1], False), ([0], [0], [0], False), ([0, 1], [0], [0], False),
    ],
)  # fmt: skip
def test_runs_are_paired_where_each_has_one_of_its_own_seed(
    ours: list[int], theirs: list[int], kept: list[int], paired: bool
) -> None:
    """A lone run is held against all seeds: that of its own may have been a lucky one."""
    one, base = (Group.of({seed: run(MIXED) for seed in seeds}) for seeds in (ours, theirs))
    other, are_paired = partner(one, base)
    assert (list(other.scores), are_paired) == (kept, paired)


@pytest.mark.parametrize(
    ("ours", "theirs", "crossed", "paired"),
    [
        ([RIGHT], [WRONG], 1, 1), ([WRONG], [RIGHT], -1, -1), ([MIXED], [MIXED], 0, 0),
        ([MIXED], [RIGHT], None, None), ([RIGHT, WRONG], [RIGHT, WRONG], None, 0),
        ([RIGHT, RIGHT], [WRONG, WRONG], 1, 1), ([RIGHT, WRONG], [WRONG, RIGHT], None, None),
        ([HALF], [HALF], None, None), ([RIGHT], [HALF], None, None), ([HALF], [WRONG], None, None),
    ],
)  # fmt: skip
def test_a_common_change_is_one_of_every_example_in_every_pair_of_runs(
    ours: list[np.ndarray], theirs: list[np.ndarray], crossed: int | None, paired: int | None
) -> None:
    one, base = (group(*map(run, values)) for values in (ours, theirs))
    assert common_change(one, base, paired=False) == crossed
    assert common_change(one, base, paired=True) == paired


def test_changed_rows_are_counted_either_way() -> None:
    """Not the difference of the two numbers alone, which tells less than half of it."""
    other = np.array([0.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    assert changed_rows(group(run(MIXED)), group(run(other))) == (2, 1)
    assert changed_rows(group(run(other)), group(run(MIXED))) == (1, 2)
    for one, base in ((HALF, MIXED), (MIXED, HALF)):
        assert changed_rows(group(run(one)), group(run(base))) is None


def test_effective_rows_are_the_rows_of_a_plain_run_and_fewer_of_others() -> None:
    plain, clustered = group(run(MIXED)), group(run(np.repeat(MIXED, 4), 4))
    assert effective_rows(plain, infer(plain.runs, plain.independent)) == 6
    in_clusters = effective_rows(clustered, infer(clustered.runs, clustered.independent))
    assert 1 < in_clusters < 12
    # As wide as independent rows would be: Korn & Graubard, with the rows' degrees of freedom.
    made = Inference(0.5, 0.1, 0.9, 0.5, None)
    assert effective_rows(clustered, made) == pytest.approx(1 + 0.25 * (2.0686576 / 0.4) ** 2)
    narrow = Inference(0.5, 0.4999, 0.5001, 0.5, None)
    assert effective_rows(clustered, narrow) == 24, "never more than there are"
    several = group(run(np.repeat(MIXED, 4), 4), run(np.repeat(MIXED, 4), 4))
    assert effective_rows(several, narrow) == 48
    for low, high in ((None, None), (None, 0.7), (0.3, None)):
        assert effective_rows(clustered, replace(made, low=low, high=high)) == 6
