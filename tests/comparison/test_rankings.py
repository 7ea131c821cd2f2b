"""Bradley-Terry strengths held to a published table, and ranks to what their intervals allow."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import special, stats

from harness.comparison.rankings import Verdict, linked, ranking, win_matrix

TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
SEASON = [  # the American League East in 1987 (Agresti, 2002, Categorical Data Analysis, 10.6)
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
]
PUBLISHED = (1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0.0)


def season(many: int = 1) -> list[Verdict]:
    games = itertools.count()
    return [
        Verdict(str(next(games)), TEAMS[i], TEAMS[j], 1.0)
        for i, row in enumerate(SEASON)
        for j, won in enumerate(row)
        for _ in range(many * won)
    ]


def drawn(strengths: dict[str, float], rows: int, seed: int = 0) -> list[Verdict]:
    random = np.random.default_rng(seed)
    return [
        Verdict(str(row), one, other, float(random.random() < special.expit(a - b)))
        for (one, a), (other, b) in itertools.combinations(strengths.items(), 2)
        for row in range(rows)
    ]


def test_strengths_are_the_published_ones() -> None:
    ranked = {model.name: model.strength.value for model in ranking(season(100), rounds=1)}
    strengths = [ranked[team] - ranked["Baltimore"] for team in TEAMS]
    assert strengths == pytest.approx(PUBLISHED, abs=5e-3)  # the prior is one win in 650


def test_ranks_are_ranges_where_intervals_overlap() -> None:
    ranked = ranking(season())
    assert [model.name for model in ranked] == list(TEAMS)
    assert ranked[0].best == 1
    assert ranked[0].worst > 1, "13 games a pair do not tell the best team"
    assert ranked[-1].best > 3
    clear = ranking(drawn({"a": 2.0, "b": 0.0, "c": -2.0}, 200))
    assert [(model.name, model.rank) for model in clear] == [("a", "1"), ("b", "2"), ("c", "3")]


def test_interval_covers_a_strength_as_often_as_it_says() -> None:
    strengths, covered = {"a": 0.5, "b": 0.0, "c": -0.5}, 0
    for seed in range(40):
        ranked = ranking(drawn(strengths, 40, seed), rounds=100)
        estimate = next(model.strength for model in ranked if model.name == "a")
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 0.5 <= estimate.high
    assert covered >= 34


def test_a_tie_is_half_a_win_for_each() -> None:
    tied = [Verdict(str(i), "a", "b", 0.5) for i in range(10)]
    split = [Verdict(str(i), "a", "b", float(i % 2)) for i in range(10)]
    for verdicts in (tied, split):
        one, other = ranking(verdicts, rounds=50)
        assert one.strength.value == pytest.approx(other.strength.value, abs=1e-6)
        assert one.rank == other.rank == "1-2"
        assert win_matrix(verdicts)["b", "a"] == (0.5, 10)


def test_verdicts_on_one_prompt_are_drawn_together() -> None:
    verdicts = drawn({"a": 0.6, "b": 0.0}, 30)
    thrice = [v for v in verdicts for _ in range(3)]
    apart = [v._replace(cluster=f"{v.cluster}-{i}") for i, v in enumerate(thrice)]
    wide, narrow = (ranking(rows, 300)[0].strength for rows in (thrice, apart))
    assert (wide.high or 0) - (wide.low or 0) > 1.3 * ((narrow.high or 0) - (narrow.low or 0))


def test_a_model_that_never_lost_has_a_finite_strength() -> None:
    ranked = ranking([Verdict(str(i), "a", "b", 1.0) for i in range(20)])
    assert ranked[0].name == "a"
    strength = ranked[0].strength
    assert strength.value == pytest.approx(np.log(21) / 2)
    assert strength.high is not None
    assert strength.value < strength.high < 5
    assert ranked[0].rank == "1"


@pytest.mark.parametrize("wins", [1, 2, 3, 4])
def test_a_few_wins_make_no_sure_rank(wins: int) -> None:
    ranked = ranking([Verdict(str(i), "a", "b", 1.0) for i in range(wins)])
    assert [model.rank for model in ranked] == ["1-2", "1-2"]


def test_models_that_never_met_are_not_ranked() -> None:
    verdicts = [Verdict("1", "a", "b", 1.0), Verdict("2", "c", "d", 1.0)]
    with pytest.raises(ValueError, match="no verdict compares c, d with a"):
        ranking(verdicts)
    with pytest.raises(ValueError, match="no verdict"):
        ranking([])


def test_matrix_counts_each_pair_from_both_sides() -> None:
    matrix = win_matrix([Verdict("1", "a", "b", 1.0), Verdict("2", "b", "a", 0.25)])
    assert matrix == {("a", "b"): (0.875, 2), ("b", "a"): (0.125, 2)}


def test_verdicts_are_split_where_no_chain_links_the_models() -> None:
    pairs = [("a", "b"), ("c", "d"), ("e", "b"), ("d", "f"), ("a", "e")]
    groups = linked([Verdict(str(i), *pair, 1.0) for i, pair in enumerate(pairs)])
    assert [{name for v in group for name in v[1:3]} for group in groups] == [
        {"a", "b", "e"}, {"c", "d", "f"},
    ]  # fmt: skip
    assert linked([]) == []


def test_ends_of_a_strength_are_those_of_its_wins_drawn_anew() -> None:
    """Six wins of six, with one win more for each side: 7 and 1 of 8, drawn eight times."""
    strong, weak = ranking([Verdict(str(n), "a", "b", 1.0) for n in range(6)], 4000)
    wins = stats.binom.ppf([0.025, 0.975], 8, 7 / 8)
    # Half of the log odds, as the two strengths have mean 0; of no win, a fiftieth is left.
    low, high = np.log((wins + 0.02) / (8 - wins + 0.02)) / 2
    assert strong.strength.value == pytest.approx(np.log(7) / 2, rel=1e-4)
    assert (strong.strength.low, strong.strength.high) == pytest.approx((low, high), rel=1e-3)
    assert (weak.strength.low, weak.strength.high) == pytest.approx((-high, -low), rel=1e-3)
