"""Credentials of judges whose worth is known."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from harness.comparison.binomial import share
from harness.comparison.calibration import JudgedPair, credentials
from harness.comparison.credentials import Credentials
from harness.comparison.powered_rates import powered_rate


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
