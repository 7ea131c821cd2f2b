"""Two sides are put on the same examples by name, whatever their order, or it is said why not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.comparison.aligned import Unaligned, aligned, scores_of, scores_of_draws
from harness.comparison.scores import Keys, Scores

VALUES = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}


def run(names: str, *, clusters: str | None = None, missing: str = "") -> Scores:
    """A run on the examples of these letters, each with its own value."""
    column = [np.nan if name in missing else VALUES[name] for name in names]
    return scores_of(tuple(names), {"value": np.array(column)}, clusters=clusters)


def values(scores: Scores) -> dict[str, float]:
    return dict(zip(scores.keys.ids, scores.sample.columns["value"].tolist(), strict=True))


def test_a_plain_table_becomes_scores_of_all_that_is_said_of_it() -> None:
    made = scores_of(
        ["x", "y"], {"hits": [1, 0], "of": [1, 2]}, clusters=["p", "p"], aggregate="share",
        higher_is_better=False, unit="points", version="v", bounds=(0.0, 1.0), chance=0.25,
    )  # fmt: skip
    assert (made.keys.ids, made.keys.clusters, made.keys.groups) == (
        ("x", "y"), ("p", "p"), ("", ""),
    )  # fmt: skip
    assert (made.sample.aggregate, made.higher_is_better, made.unit, made.version) == (
        "share", False, "points", "v",
    )  # fmt: skip
    assert (made.bounds, made.chance, made.drawn) == ((0.0, 1.0), 0.25, None)
    assert {name: column.dtype for name, column in made.sample.columns.items()} == {
        "hits": np.float64, "of": np.float64,
    }  # fmt: skip
    plain = scores_of(["x", "y"], {"value": [1, 2]})
    assert plain.higher_is_better
    assert plain.keys.together.single
    assert plain.sample.aggregate == "mean"
    assert (plain.bounds, plain.chance) == ((-np.inf, np.inf), None)


def test_a_name_that_occurs_twice_is_refused() -> None:
    with pytest.raises(Unaligned, match="occurs twice"):
        run("aba")
    names = ("a", "c", "b", "c", "b")
    twice = replace(run("abcd"), keys=Keys(names, names, ("",) * 5))
    with pytest.raises(Unaligned, match="the example 'c' occurs twice on one side"):
        aligned({0: twice}, {0: run("abc")}, shared=True)


@pytest.mark.parametrize("draws", [1, 2, 3, 8])
def test_of_several_answers_the_mean_counts_and_how_it_would_change_is_known(draws: int) -> None:
    """The variance of a mean of k draws is estimated by their own variance over k."""
    drawn = np.random.default_rng(draws).normal(size=(5, draws))
    made = scores_of_draws("abcde", drawn, unit="points")
    assert made.sample.columns["value"] == pytest.approx(drawn.sum(axis=1) / draws)
    assert made.unit == "points"
    if draws == 1:
        assert made.drawn is None
        return
    squares = [sum((value - one.mean()) ** 2 for value in one) for one in drawn]
    assert made.drawn == pytest.approx(np.array(squares) / (draws - 1) / draws)


def test_sides_on_one_list_of_examples_stay_as_they_are() -> None:
    first = run("abc")
    one, other = {0: first, 1: replace(first)}, {5: replace(first, version="w")}
    ours, theirs, note = aligned(one, other, shared=False)
    assert (ours, theirs, note) == (one, other, "")
    assert ours[0] is first


def test_seeds_keep_their_names_and_their_sides() -> None:
    one, other = {3: run("abcd"), 1: run("dcba")}, {7: run("bdac"), 2: run("cabd"), 9: run("abcd")}
    ours, theirs, note = aligned(one, other, shared=False)
    assert (list(ours), list(theirs), note) == ([3, 1], [7, 2, 9], "")
    placed = [*ours.values(), *theirs.values()]
    assert all(values(scores) == VALUES for scores in placed)
    assert all(scores.keys is placed[0].keys for scores in placed)
    assert placed[0].keys.ids == tuple("abcd"), "the order of the first run"


@settings(max_examples=60, deadline=None)
@given(
    sides=st.lists(st.permutations("abcd").map("".join), min_size=2, max_size=4),
    missing=st.lists(st.sampled_from(["", "a", "bd"]), min_size=4, max_size=4),
)
def test_each_value_stays_with_its_name_and_what_any_run_lacks_is_left_out(
    sides: list[str], missing: list[str]
) -> None:
    runs = [run(names, missing=lost) for names, lost in zip(sides, missing, strict=False)]
    runs = [replace(one, drawn=one.sample.columns["value"] / 10) for one in runs]
    lost = set("".join(missing[: len(runs)]))
    left = [name for name in sides[0] if name not in lost]
    ours, theirs, note = aligned({0: runs[0]}, dict(enumerate(runs[1:])), shared=True)
    for scores in (*ours.values(), *theirs.values()):
        assert values(scores) == {name: VALUES[name] for name in left}
        assert list(scores.keys.ids) == left
        assert scores.drawn == pytest.approx(scores.sample.columns["value"] / 10)
    assert (note == "") is not bool(lost)
    if lost:
        assert note == f"{len(left)} of up to 4 examples: those with a value on both sides"


def test_examples_that_one_side_lacks_are_refused_unless_the_shared_ones_are_asked_for() -> None:
    one, other = {0: run("abc")}, {0: run("dcb")}
    with pytest.raises(Unaligned, match="2 of up to 3 have a value on both sides; `examples: sha"):
        aligned(one, other, shared=False)
    ours, theirs, note = aligned(one, other, shared=True)
    assert values(ours[0]) == values(theirs[0]) == {"b": 2.0, "c": 4.0}
    assert note == "2 of up to 3 examples: those with a value on both sides"
    for more in ("abcd", "bcda"):
        _, _, note = aligned(one, {0: run(more)}, shared=True)
        assert note == "3 of up to 4 examples: those with a value on both sides"
    for shared in (True, False):
        with pytest.raises(Unaligned, match="none has a value on both sides"):
            aligned({0: run("ab")}, {0: run("cd")}, shared=shared)


def test_a_value_that_is_missing_on_either_side_is_as_good_as_no_example() -> None:
    for one, other in (("b", ""), ("", "b")):
        sides = {0: run("abc", missing=one)}, {0: run("abc", missing=other)}
        with pytest.raises(Unaligned, match="2 of up to 3"):
            aligned(*sides, shared=False)
        assert values(aligned(*sides, shared=True)[0][0]) == {"a": 1.0, "c": 4.0}
    alone, other, note = aligned({0: run("abc", missing="a")}, {}, shared=True)
    assert values(alone[0]) == {"b": 2.0, "c": 4.0}
    assert (other, note) == ({}, "2 of up to 3 examples: those with a value on both sides")


def test_an_example_with_any_statistic_missing_or_infinite_has_no_value() -> None:
    columns = {"hits": np.array([1.0, np.nan, 1.0, 0.0]), "of": np.array([1.0, 1.0, np.inf, 2.0])}
    gaps = scores_of("abcd", columns, aggregate="share")
    whole = scores_of("abcd", {"hits": np.ones(4), "of": np.ones(4)}, aggregate="share")
    for sides in (({0: gaps}, {0: whole}), ({0: whole}, {0: gaps})):
        assert aligned(*sides, shared=True)[0][0].keys.ids == ("a", "d")


@pytest.mark.parametrize("which", [0, 1, 2])
def test_clusters_that_any_run_knows_hold_for_all(which: int) -> None:
    names = ["abcd", "dcba", "bdac"]
    together = {"a": "x", "b": "x", "c": "y", "d": "z"}
    runs = [
        run(own, clusters=[together[name] for name in own] if place == which else None)
        for place, own in enumerate(names)
    ]
    ours, theirs, _ = aligned({0: runs[0]}, {0: runs[1], 1: runs[2]}, shared=False)
    for scores in (*ours.values(), *theirs.values()):
        assert scores.keys.clusters == tuple("xxyz")
        assert scores.keys.together.count == 3
    apart = aligned({0: run("ab")}, {0: run("ba")}, shared=False)[0][0]
    assert apart.keys.together.single
    assert apart.keys.clusters is apart.keys.ids


def test_runs_that_put_the_examples_into_other_clusters_are_refused() -> None:
    one, other = run("abcd", clusters="xxyy"), run("dcba", clusters="yyxx")
    assert aligned({0: one}, {0: other}, shared=False)[0][0].keys.clusters == tuple("xxyy")
    for wrong in (run("abcd", clusters="xyyy"), run("dcba", clusters="xxyy")):
        with pytest.raises(Unaligned, match="not the same clusters"):
            aligned({0: one, 1: run("abcd")}, {0: wrong}, shared=False)
