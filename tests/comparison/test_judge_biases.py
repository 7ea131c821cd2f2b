"""A judge's faults, on judges whose faults are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.comparison.binomial import share
from harness.comparison.judge_biases import (
    Compared,
    flip_rate,
    labels_for_estimate,
    labels_for_share,
    length_quarters,
    position_bias,
    repeatability,
    transitivity,
    verbosity_bias,
)
from harness.comparison.result import Estimate
from harness.comparison.statistics import Array, Clusters


def apart(count: int) -> Clusters:
    return Clusters([str(i) for i in range(count)])


def test_a_judge_that_always_names_the_first_answer_has_full_position_bias() -> None:
    as_first, as_second = np.ones(40), np.zeros(40)
    assert position_bias(as_first, as_second, apart(40)).value == 1.0
    assert flip_rate(as_first, as_second, apart(40)) == share(40, 40)


def test_a_fair_judge_has_no_position_bias_and_never_flips() -> None:
    random = np.random.default_rng(0)
    odds = random.random(200)
    bias = position_bias(odds, odds, apart(200))
    assert bias.value == 0.0
    assert flip_rate(odds, odds, apart(200)).value == 0.0


def test_position_bias_is_found_within_its_interval() -> None:
    random = np.random.default_rng(1)
    merit = random.normal(0, 1, 500)
    as_first, as_second = ((merit + lean + random.normal(0, 1, 500) > 0).astype(float)
                           for lean in (0.3, -0.3))  # fmt: skip
    bias = position_bias(as_first, as_second, apart(500))
    assert bias.low is not None
    assert bias.low > 0, "it is shown not to be 0"
    assert bias.value == pytest.approx(0.17, abs=0.06)


@pytest.mark.parametrize("way", [1.0, -1.0])
def test_no_interval_of_a_bias_is_wider_than_all_or_nothing(way: float) -> None:
    """Three contests of four are won by the place, or the length, alone."""
    always = np.asarray([1.0, 1, 1, 0])
    orders = (always, 1 - always) if way > 0 else (1 - always, always)
    found = [
        position_bias(orders[0], np.asarray([*orders[1][:3], orders[0][3]]), apart(4)),
        verbosity_bias(way * np.ones(4), way * (1 - 2 * always), np.ones(4), apart(4)),
    ]
    for bias in found:
        assert bias is not None
        assert bias.value == pytest.approx(way * 0.75)
        assert bias.low is not None
        assert bias.high is not None
        assert max(way * bias.low, way * bias.high) == 1.0
        assert -1.0 <= bias.low < bias.high <= 1.0


def preferring(random: np.random.Generator, merit: Array, lean: Array) -> Array:
    return np.sign(merit + lean + random.normal(0, 0.5, len(merit)))


def test_verbosity_bias_is_what_the_judge_gives_to_length_beyond_the_labels() -> None:
    random = np.random.default_rng(2)
    excess = random.normal(0, 100, 600)
    merit = excess / 200 + random.normal(0, 1, 600)  # longer answers are in truth better
    labels = preferring(random, merit, np.zeros(600))
    fair, wordy = (preferring(random, merit, lean * np.sign(excess)) for lean in (0.0, 1.0))
    for verdicts, biased in ((fair, False), (wordy, True)):
        bias = verbosity_bias(verdicts, labels, excess, apart(600))
        assert bias is not None
        assert bias.low is not None
        assert bias.high is not None
        assert (bias.low > 0.1) if biased else (bias.low < 0 < bias.high)
    unlabelled = verbosity_bias(fair, None, excess, apart(600))
    assert unlabelled is not None
    assert unlabelled.value > 0.1, "without labels it cannot be told from merit"
    assert verbosity_bias(fair, None, np.zeros(600), apart(600)) is None


def test_verbosity_bias_does_not_depend_on_which_answer_is_named_first() -> None:
    verdicts, labels = np.asarray([1.0, -1, 0, 1]), np.asarray([1.0, 1, 1, -1])
    excess = np.asarray([5.0, -3, 2, 9])
    one, other = (verbosity_bias(s * verdicts, s * labels, s * excess, apart(4)) for s in (1, -1))
    assert one == other
    assert one is not None
    assert one.value == pytest.approx((0 + 1 - 0.5 + 1) / 4)


def test_repeatability_is_the_share_of_contests_alike_in_all_runs() -> None:
    runs = [[1, 0, -1, None], [1, 0, 1, None], [1, 0, -1, 1]]
    assert repeatability(runs, apart(4)) == share(2, 4)


def ranked(prompt: str, merits: dict[str, int]) -> list[Compared]:
    return [
        Compared(prompt, one, other, int(np.sign(merits[one] - merits[other])))
        for one, other in itertools.combinations(merits, 2)
    ]


def test_verdicts_of_a_ranking_are_transitive_and_a_circle_is_not() -> None:
    fits = transitivity(ranked("p", {"a": 3, "b": 1, "c": 1, "d": 0}))
    assert fits is not None
    assert (fits.consistent.value, fits.triples) == (1.0, 4)
    circle = [Compared("p", *pair, 1) for pair in (("a", "b"), ("b", "c"), ("c", "a"))]
    assert transitivity(circle) is not None
    both = transitivity([*circle, *ranked("q", {"a": 1, "b": 2, "c": 3})])
    assert both is not None
    assert both.consistent.value == 0.5
    assert both.by_chance == 0.75, "6 of 8 triples of wins and losses fit a ranking"


def test_a_tie_between_a_winner_and_its_loser_is_no_ranking() -> None:
    fits = transitivity([Compared("p", *"ab", 1), Compared("p", *"bc", 1), Compared("p", *"ac", 0)])
    assert fits is not None
    assert fits.consistent.value == 0.0


def test_random_verdicts_are_as_transitive_as_chance_says() -> None:
    random = np.random.default_rng(3)
    verdicts = [
        Compared(str(prompt), one, other, int(random.choice([-1, 0, 1], p=[0.4, 0.2, 0.4])))
        for prompt in range(3000)
        for one, other in itertools.combinations("abc", 2)
    ]
    fits = transitivity(verdicts)
    assert fits is not None
    assert fits.consistent.value == pytest.approx(fits.by_chance, abs=0.02)


def test_pairs_alone_have_no_triple() -> None:
    assert transitivity([Compared("p", "a", "b", 1), Compared("q", "b", "c", 1)]) is None


def test_quarters_split_by_length_and_keep_equal_lengths_together() -> None:
    quarters = length_quarters(np.arange(8.0))
    assert quarters == [q for q in ("shortest", "short", "long", "longest") for _ in range(2)]
    assert set(length_quarters(np.full(5, 3.0))) == {"shortest"}


@pytest.mark.parametrize(("accuracy", "labelled"), [(0.9, 30), (0.5, 10), (1.0, 20), (0.7, 0)])
def test_further_labels_reach_the_precision_and_no_fewer_do(accuracy: float, labelled: int) -> None:
    total = labelled + labels_for_share(accuracy, labelled, 0.05)

    def half(count: int) -> float:
        estimate = share(accuracy * count, count)
        return ((estimate.high or 0) - (estimate.low or 0)) / 2

    assert half(total) <= 0.05
    assert total == labelled or half(total - 1) > 0.05


def test_labels_that_are_enough_need_no_more() -> None:
    assert labels_for_share(0.9, 5000, 0.05) == 0
    assert labels_for_estimate(Estimate(0.6, 0.55, 0.65), 900, 0.1) == 0
    assert labels_for_estimate(Estimate(0.6, 0.5, 0.7), 100, 0.05) == 300
    assert labels_for_estimate(Estimate(1.0), 100, 0.05) is None
