"""Credentials of judges whose worth is known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness.comparison.binomial import share
from harness.comparison.calibration import JudgedPair, credentials
from harness.comparison.credentials import Agreement, Credentials, told
from harness.comparison.powered_rates import powered_rate
from harness.comparison.result import Estimate


def judged(
    count: int = 120, right: float = 1.0, seed: int = 0, runs: int = 1, first: float = 0.0
) -> list[JudgedPair]:
    """Pairs with one label; the judge says the same this often, and else draws; `first` is added to
    what is shown first."""
    random = np.random.default_rng(seed)
    pairs = []
    for number in range(count):
        label = int(random.choice([1, 0, -1], p=[0.45, 0.1, 0.45]))

        def says(label: int = label) -> int:
            return label if random.random() < right else int(random.choice([1, 0, -1]))

        verdicts = tuple(says() for _ in range(runs))
        straight = 0.5 + verdicts[0] / 4
        lengths = int(random.integers(10, 200)), int(random.integers(10, 200))
        orders = (straight + first, straight - first)
        pairs.append(JudgedPair(f"row{number}", {"": {"ann": label}}, verdicts, orders, lengths))
    return pairs


def whole(made: Credentials) -> tuple[float, float]:
    assert made.whole is not None
    assert made.whole.kappa is not None
    return made.whole.agreement.value, made.whole.kappa.value


def test_a_perfect_judge_agrees_on_every_slice() -> None:
    made = credentials("judge", "labels.jsonl", judged(runs=2))
    assert [part.slice for part in made.agreements] == [
        "all pairs", "shortest quarter", "short quarter", "long quarter", "longest quarter"
    ]  # fmt: skip
    for part in made.agreements:
        assert part.agreement == share(part.pairs, part.pairs)
        assert part.kappa is not None
        assert part.alpha is not None
        assert part.kappa.value == part.alpha.value == 1.0
    assert sum(part.pairs for part in made.agreements[1:]) == 120
    assert made.repeatability == share(120, 120)
    assert (made.labelled, made.missing, made.labellers, made.people) == (120, 0, 1, None)


def test_a_judge_that_guesses_has_agreement_and_no_kappa() -> None:
    agreement, kappa = whole(credentials("judge", "", judged(3000, right=0.0)))
    assert agreement == pytest.approx(1 / 3, abs=0.03)
    assert kappa == pytest.approx(0.0, abs=0.04)


@pytest.mark.parametrize(
    ("right", "count", "shown"),
    [(1.0, 40, True), (0.6, 300, True), (0.0, 300, False), (1.0, 2, False), (0.3, 10, False)],
)
def test_a_judge_is_trusted_once_it_is_shown_to_beat_chance(
    right: float, count: int, shown: bool
) -> None:
    assert credentials("judge", "", judged(count, right=right, seed=1)).beats_chance is shown


@pytest.mark.parametrize("verdict", [1, 0])
def test_a_judge_with_one_verdict_for_all_is_never_trusted(verdict: int) -> None:
    pairs = [replace(pair, verdicts=(verdict,)) for pair in judged(500)]
    made = credentials("judge", "", pairs)
    assert not made.beats_chance
    assert made.whole is not None
    assert made.whole.agreement.value == pytest.approx(made.whole.by_chance, abs=0.05)


def test_credentials_do_not_depend_on_which_answer_is_called_the_first() -> None:
    pairs = judged(200, right=0.6)
    better_first = [
        replace(p, labels={"": {"ann": abs(p.label("") or 0)}}, orders=None, lengths=p.lengths[::s],
                verdicts=(s * (p.verdicts[0] or 0),))
        for p in pairs for s in [-1 if p.label("") == -1 else 1]
    ]  # fmt: skip
    one, other = (credentials("judge", "", some).whole for some in (pairs, better_first))
    assert one is not None
    assert one == other


def test_a_judge_that_is_right_on_half_needs_more_labels_than_it_has() -> None:
    made = credentials("judge", "", judged(100, right=0.5), precision=0.03)
    assert 0.5 < whole(made)[0] < 0.8
    assert made.further["agreement"] is not None
    assert made.further["agreement"] > 500
    assert made.further["kappa"] is not None
    assert made.further["kappa"] > made.further["agreement"]


def test_accuracy_is_about_pairs_with_a_better_answer_and_a_tie_is_half_of_it() -> None:
    said = [(1, 1), (1, 0), (-1, 1), (0, 1), (0, 0)]  # label, verdict
    pairs = [JudgedPair(str(i), {"": {"a": label}}, (verdict,), None, (1, 1))
             for i, (label, verdict) in enumerate(said)]  # fmt: skip
    part = credentials("judge", "", pairs).whole
    assert part is not None
    assert part.accuracy is not None
    assert part.accuracy.value == pytest.approx(1.5 / 3)
    assert part.agreement.value == pytest.approx(2 / 5)


def test_verdicts_that_are_missing_are_counted_and_never_wrong() -> None:
    pairs = [replace(pair, verdicts=(None,)) if i < 20 else pair for i, pair in enumerate(judged())]
    made = credentials("judge", "", pairs)
    assert (made.labelled, made.missing) == (120, 20)
    assert made.whole is not None
    assert made.whole.agreement == share(100, 100)
    mute = credentials("judge", "", [replace(p, verdicts=(None,), orders=None) for p in pairs])
    assert mute.whole is None
    assert mute.missing == 120


def test_the_label_of_several_people_is_the_majoritys_and_their_own_agreement_is_told() -> None:
    labels = [{"ann": 1, "bob": 1, "cid": -1}, {"ann": -1, "bob": -1}, {"ann": 1, "bob": -1}]
    pairs = [JudgedPair(str(i), {"": by}, (verdict,), None, (1, 1))
             for i, (by, verdict) in enumerate(zip(labels, (1, -1, 0), strict=True))]  # fmt: skip
    made = credentials("judge", "", pairs)
    assert made.whole is not None
    assert made.whole.agreement.value == 1.0
    assert made.labellers == 3
    assert made.people is not None
    assert made.people.value < 0.5


def test_each_dimension_that_is_labelled_has_its_line() -> None:
    pairs = [
        replace(pair, labels={"true": {"ann": pair.label("") or 0}, "polite": {"ann": 1}})
        for pair in judged()
    ]
    made = credentials("judge", "", pairs)
    lines = {part.slice: part for part in made.agreements}
    assert lines["all pairs"].agreement == lines["dimension true"].agreement
    assert lines["dimension polite"].agreement.value < 0.6


def test_faults_are_measured_on_what_the_judge_was_asked() -> None:
    made = credentials("judge", "", judged(first=0.4))
    assert made.position is not None
    assert made.position.value == pytest.approx(0.8)
    assert made.flips is not None
    assert made.flips.value > 0.9
    equal = [replace(pair, asked=False) for pair in judged()]
    assert credentials("judge", "", equal).position is None


def test_a_judge_whose_verdicts_all_flip_may_still_lean_to_the_better_answer() -> None:
    """Of ten pairs it leans to the better answer in seven, to the worse in two, to none in one."""
    leanings = [0.02] * 7 + [-0.02] * 2 + [0.0]
    pairs = [
        JudgedPair(str(n), {"": {"ann": 1}}, (0,), (0.9375 + lean, 0.0625), (1, 1))
        for n, lean in enumerate(leanings)
    ]
    tied = JudgedPair("tied", {"": {"ann": 0}}, (0,), (0.9, 0.1), (1, 1))
    one_order = JudgedPair("one order", {"": {"ann": 1}}, (1,), None, (1, 1))
    made = credentials("judge", "", [*pairs, tied, one_order])
    assert made.flips is not None
    assert made.by_mean is not None
    assert (made.flips.value, made.by_mean.value) == (1.0, pytest.approx(0.75))
    mirrored = [
        replace(pair, labels={"": {"ann": -1}}, orders=(1 - pair.orders[0], 1 - pair.orders[1]))
        for pair in pairs
        if pair.orders is not None
    ]
    other = credentials("judge", "", mirrored).by_mean
    assert other is not None
    assert other.value == pytest.approx(0.75)
    assert credentials("judge", "", [tied, one_order]).by_mean is None


def test_triples_of_one_prompt_are_held_to_a_ranking() -> None:
    merits = {"a": 3, "b": 2, "c": 1}
    pairs = [
        JudgedPair("row", {"": {"ann": 1}}, (1,), None, (1, 1), names=("row", one, other))
        for one, other in itertools.combinations(merits, 2)
    ]
    made = credentials("judge", "", pairs)
    assert (made.triples, made.chance) == (1, 0.75)
    assert made.transitivity == share(1, 1)


def test_credentials_are_kept_as_text_and_read_again() -> None:
    made = credentials("judge", "labels.jsonl", judged(right=0.7, runs=3))
    assert Credentials.model_validate_json(made.model_dump_json()) == made


def test_no_pairs_make_no_credentials_to_speak_of() -> None:
    made = credentials("judge", "", [])
    assert (made.whole, made.labelled, made.further) == (None, 0, {})


def test_equal_answers_tie_in_a_win_rate_though_nobody_labels_them() -> None:
    """Labels are drawn of different answers alone, and must not stand for the others too."""
    random, tries, covered = np.random.default_rng(0), 300, 0
    for _ in range(tries):
        names = [str(number) for number in range(400)]
        equal = {name for name in names if random.random() < 0.5}
        truth = {name: float(random.random() < 0.8) for name in names}
        won = {n: 0.5 if n in equal else float(random.random() < 0.5) for n in names}
        labels = {name: truth[name] for name in names if name not in equal and int(name) < 120}
        rate = powered_rate("a", "b", "tasks", won, labels, equal=equal)
        assert rate is not None
        assert rate.both.low is not None
        assert rate.both.high is not None
        assert abs(rate.both.value - 0.65) < 0.15
        covered += rate.both.low <= 0.65 <= rate.both.high
    assert 0.92 <= covered / tries <= 0.99


def test_win_rate_is_about_clusters_of_examples() -> None:
    """Ten examples that say the same are one."""
    won = {f"{number}": float(number % 3 > 0) for number in range(120)}
    repeated = {f"{name} {copy}": value for name, value in won.items() for copy in range(10)}
    clusters = {name: name.split()[0] for name in repeated}
    one = powered_rate("a", "b", "tasks", won, dict(list(won.items())[:60]))
    many = powered_rate("a", "b", "tasks", repeated, dict(list(repeated.items())[:600]),
                        clusters=clusters)  # fmt: skip
    assert one is not None
    assert many is not None
    assert many.both.low == pytest.approx(one.both.low)


# --- the numbers of a judge, counted by hand ------------------------------------------------------


def agreeing(kappa: Estimate | None, agreement: Estimate = Estimate(0.9, 0.8, 0.95)) -> Agreement:
    return Agreement(slice="all pairs", pairs=40, agreement=agreement, by_chance=0.5,
                     accuracy=None, kappa=kappa, alpha=None)  # fmt: skip


@pytest.mark.parametrize(
    ("part", "beats", "words"),
    [
        (agreeing(Estimate(0.6, 0.4, 0.8)), True, "kappa 0.60 [0.40, 0.80] on 40 labels"),
        (agreeing(Estimate(0.6, 0.0, 0.8)), False,
         "not better than chance: kappa 0.60 [0.00, 0.80] on 40 labels"),
        (agreeing(Estimate(0.1, -0.1, 0.3)), False,
         "not better than chance: kappa 0.10 [-0.10, 0.30] on 40 labels"),
        # Where kappa has no interval, agreement must be beyond what chance reaches.
        (agreeing(Estimate(1.0)), True, "kappa 1.00 on 40 labels"),
        (agreeing(Estimate(1.0), Estimate(0.9, 0.5, 1.0)), False,
         "not better than chance: kappa 1.00 on 40 labels"),
        (agreeing(Estimate(1.0), Estimate(0.9)), False,
         "not better than chance: kappa 1.00 on 40 labels"),
        (agreeing(None), False, "not better than chance: kappa none on 40 labels"),
    ],
)  # fmt: skip
def test_a_judge_beats_chance_only_if_its_interval_does(
    part: Agreement, beats: bool, words: str
) -> None:
    made = credentials("judge", "", []).model_copy(update={"agreements": [part, agreeing(None)]})
    assert (part.beats_chance, made.beats_chance, told(made)) == (beats, beats, words)


def test_a_judge_without_a_verdict_has_no_words_of_agreement() -> None:
    made = credentials("judge", "", [])
    assert not made.beats_chance
    assert told(made) == "no verdict on any labelled pair"


def test_repeatability_is_of_several_runs_of_what_was_asked() -> None:
    def ran(*verdicts: int | None, asked: bool = True) -> JudgedPair:
        return JudgedPair(str(verdicts), {"": {"ann": 1}}, verdicts, None, (1, 1), asked=asked)

    some = [ran(1, 1), ran(1, -1), ran(1, None), ran(0, 0), ran(0, 0, asked=False)]
    assert credentials("judge", "", some).repeatability == share(2, 4)
    once = credentials("judge", "", [ran(1), ran(-1)])
    assert (once.runs, once.repeatability) == (1, None)
    idle = [ran(0, 0, asked=False)]
    assert credentials("judge", "", idle).repeatability is None


def test_agreement_by_chance_is_of_both_orders_of_each_pair() -> None:
    """Labels 1, 1, 0 and verdicts 1, -1, 0: in both orders each has every sign twice of six."""
    pairs = [JudgedPair(str(i), {"": {"ann": label}}, (verdict,), None, (1, 1))
             for i, (label, verdict) in enumerate([(1, 1), (1, -1), (0, 0)])]  # fmt: skip
    part = credentials("judge", "", pairs).whole
    assert part is not None
    assert part.by_chance == pytest.approx(3 * (2 / 6) ** 2)
    assert part.kappa is not None
    assert part.alpha is not None
    assert part.kappa.value == pytest.approx((4 / 6 - 1 / 3) / (1 - 1 / 3))
    # Krippendorff: 4 of 12 values of two ratings differ; of 12 values, four of each sign.
    assert part.alpha.value == pytest.approx(1 - (4 / 12) / ((144 - 3 * 16) / (12 * 11)))


@pytest.mark.parametrize(
    ("by", "label"),
    [({}, None), ({"a": 1}, 1), ({"a": 1, "b": -1}, 0), ({"a": 1, "b": 0}, 0), ({"a": 0}, 0),
     ({"a": -1, "b": -1, "c": 1}, -1), ({"a": 1, "b": 0, "c": -1}, 0),
     ({"a": 1, "b": 1, "c": 0, "d": 0}, 0)],
)  # fmt: skip
def test_a_label_is_what_more_than_half_of_the_people_say(
    by: dict[str, int], label: int | None
) -> None:
    assert JudgedPair("row", {"": by}, (1,), None, (1, 1)).label("") == label


def test_a_judge_that_rates_has_a_verdict_for_each_dimension_that_it_rated() -> None:
    pair = JudgedPair("row", {}, (1, -1), None, (1, 1), rated={"true": -1, "short": None})
    assert [pair.verdict(name) for name in ("", "true", "short")] == [1, -1, None]
    assert replace(pair, rated=None).verdict("true") == 1


def test_pairs_that_are_labelled_by_dimension_alone_are_judged_by_the_first() -> None:
    pairs = [
        JudgedPair(str(i), {"true": {"ann": 1}, "short": {"ann": -1}}, (1,), None, (1, 1),
                   rated={"true": 1, "short": 1 - 2 * (i % 2)})
        for i in range(8)
    ]  # fmt: skip
    made = credentials("judge", "", pairs)
    assert [(part.slice, part.agreement.value) for part in made.agreements[:3]] == [
        ("all pairs", 1.0), ("dimension true", 1.0), ("dimension short", 0.5)
    ]  # fmt: skip


@pytest.mark.parametrize("labelled", [9, 10])
def test_a_win_rate_is_corrected_from_ten_labels_on(labelled: int) -> None:
    won = {str(n): float(n % 2) for n in range(40)}
    rate = powered_rate("a", "b", "e", won, {str(n): 1.0 - n % 3 % 2 for n in range(labelled)})
    assert (rate is not None) is (labelled == 10)


def test_how_many_examples_tie_is_part_of_a_win_rates_doubt() -> None:
    """60 of 100 examples have different answers; the others tie."""
    won = {str(n): float(n % 3 > 0) for n in range(60)}
    labels = {str(n): float(n % 4 > 0) for n in range(40)}
    some = powered_rate("a", "b", "e", won, labels)
    tied = {str(n): 0.5 for n in range(60, 100)}
    every = powered_rate("a", "b", "e", won | tied, labels, equal=tied)
    assert some is not None
    assert every is not None
    for of_some, of_all in ((some.both, every.both), (some.labels, every.labels)):
        assert of_some.low is not None
        assert of_some.high is not None
        gap, error = of_some.value - 0.5, math.sqrt(0.6 * 0.4 / 100)
        drawn = stats.t.ppf(0.975, 99) * error * gap
        below = math.hypot(0.6 * (of_some.value - of_some.low), drawn)
        above = math.hypot(0.6 * (of_some.high - of_some.value), drawn)
        middle = 0.5 + 0.6 * gap
        wanted = (middle, middle - below, min(1.0, middle + above))
        assert (of_all.value, of_all.low, of_all.high) == pytest.approx(wanted)
    assert (some.labelled, some.examples) == (40, 60)
    assert (every.labelled, every.examples) == (40, 100)
    assert every.judged == pytest.approx((40 + 20) / 100)


def test_labels_of_one_cluster_give_no_interval() -> None:
    won, tied = {str(n): float(n % 2) for n in range(20)}, {"x": 0.5}
    rate = powered_rate("a", "b", "e", won | tied, dict(list(won.items())[:12]), equal=tied,
                        clusters=dict.fromkeys(won, "one"))  # fmt: skip
    assert rate is not None
    assert (rate.both.low, rate.both.high) == (None, None)
