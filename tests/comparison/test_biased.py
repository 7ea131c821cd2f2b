"""Notes on a judge: their intervals are over clusters of examples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.comparison import biased
from harness.comparison.biased import _of_contests, _of_lists, _of_panel
from harness.comparison.judged_verdicts import Said
from harness.data.contests import Compared, Standing


def said(orders: tuple[float, float], lengths: tuple[int, int], cluster: str) -> Said:
    return Said(Compared(orders), lengths, cluster)


def test_counts_are_those_of_the_contests_that_were_asked_and_answered() -> None:
    several = [
        said((0.9, 0.6), (5, 1), "a"), said((0.1, 0.4), (5, 1), "b"), said((0.9, 0.3), (9, 1), "c"),
        said((0.5, 0.5), (2, 1), "d"), said((0.5, 0.9), (2, 1), "e"),
        Said(Compared(("no letter", 0.2)), (2, 1), "f"),
        Said(Compared((0.5, 0.5), asked=False), (2, 2), "g"),
    ]  # fmt: skip
    changes, first, longer = _of_contests(several)
    assert "changes with the order in 20%" in changes
    assert changes.endswith("of 5 contests")
    assert first.startswith("mean probability of the first place is 52%")  # (.65+.35+.8+.5+.3)/5
    assert longer.startswith("choice is the longer answer in 50%")
    assert longer.endswith("of 2")


def width(text: str) -> int:
    found = re.search(r"\((\d+)% to (\d+)%\)", text)
    assert found is not None
    return int(found[2]) - int(found[1])


@pytest.mark.parametrize("part", [0, 1, 2])
def test_the_same_examples_under_many_variants_do_not_narrow_an_interval(part: int) -> None:
    once = [
        said((0.9, 0.2) if n % 3 == 0 else (0.8, 0.7), (n % 2 + 1, 1 + (n + 1) % 2), str(n))
        for n in range(30)
    ]
    alone, repeated = (list(_of_contests(several)) for several in (once, once * 8))
    independent = list(_of_contests([
        said((one.compared.known[0], one.compared.known[1]), one.lengths, f"{turn} {one.cluster}")
        for turn in range(8) for one in once
    ]))  # fmt: skip
    assert abs(width(repeated[part]) - width(alone[part])) <= 3
    assert width(independent[part]) < 0.6 * width(alone[part])


def standings(*orders: Sequence[float]) -> list[Standing]:
    """Of answers by their shares in each order; the second order is the first one reversed."""
    count = len(orders)
    return [Standing(tuple(of), (place, count - 1 - place)) for place, of in enumerate(orders)]


def test_lists_tell_whether_the_best_answer_stays_the_best() -> None:
    stays = standings((1.0, 1.0), (0.5, 0.5), (0.0, 0.0))
    places_only = standings((1.0, 0.0), (0.5, 0.5), (0.0, 1.0))
    missing = [Standing(("no ranking", 0.5), (0, 1)), Standing(("no ranking", 0.5), (1, 0))]
    equal = [Standing((0.5, 0.5)), Standing((0.5, 0.5))]
    lists = [("a", stays), ("b", places_only), ("c", missing), ("d", equal)]
    changes, first = _of_lists(lists)
    assert changes.startswith("best answer changes with the order in 50%")
    assert changes.endswith("of 2 lists")
    assert first.startswith("first place stands above 75%")  # of (1 + 0) / 2, and (1 + 1) / 2
    assert list(_of_lists([("c", missing), ("d", equal)])) == []


def voted(cluster: str, *signs: int | None) -> Said:
    """A contest and what each member of a panel said of it."""
    orders = {1: (0.9, 0.8), 0: (0.9, 0.2), -1: (0.1, 0.2), None: ("no letter", 0.5)}
    members = {f"{place} judge": orders[sign] for place, sign in enumerate(signs)}
    return Said(Compared((0.5, 0.5), members), (1, 1), cluster)


def test_a_panel_tells_how_far_its_members_agree() -> None:
    """By hand, of four contests in both orders: 1 of 4 has two votes that differ, and of the 16
    votes 6 are wins, 6 losses and 4 ties. The contest with one vote counts nowhere."""
    several = [
        voted("a", 1, 1), voted("b", -1, -1), voted("c", 1, -1), voted("d", 0, 0),
        voted("e", 1, None),
    ]  # fmt: skip
    (told,) = _of_panel(several)
    expected = 1 - (1 / 4) / (1 - (36 - 6 + 36 - 6 + 16 - 4) / (16 * 15))
    assert f"alpha {expected:.2f} (" in told
    assert told.endswith("on 5 contests; chance has 0, full agreement 1.")
    (alike,) = _of_panel([voted("a", 0, 0), voted("b", 0, 0)])
    assert "is unknown" in alike


def test_one_judge_has_no_members_to_agree() -> None:
    assert not list(_of_panel([said((0.9, 0.6), (5, 1), "a")]))
    assert not list(_of_panel([Said(Compared((0.5, 0.5), asked=False), (2, 2), "g")]))


def test_lists_in_one_order_tell_nothing_of_another() -> None:
    (first,) = _of_lists([("a", [Standing((1.0,), (0,)), Standing((0.0,), (1,))])])
    assert first.startswith("first place stands above 100%")
    three = [Standing((share,) * 3, (place,) * 3) for place, share in enumerate((1.0, 0.0))]
    assert len(list(_of_lists([("a", three)]))) == 2


class Judged:
    """A score stage that asked a judge itself, or read what another stage asked."""

    kind = "score"

    def __init__(self, key: str, *reads: Judged) -> None:
        self.key, self.inputs = key, {stage.key: stage for stage in reads}


def test_each_judged_score_has_one_sentence_over_the_contests_of_all_variants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verdicts = {
        "one": {"r1": said((0.9, 0.1), (5, 1), "r1"), "r2": said((0.9, 0.9), (1, 5), "r2")},
        "two": {"r1": said((0.9, 0.1), (5, 1), "r1")},
        "other": {"r1": said((0.2, 0.2), (5, 1), "r1")},
    }
    monkeypatch.setattr(biased, "said_in", lambda stage, store: verdicts.get(stage.key, {}))
    monkeypatch.setattr(biased, "rankings_of", lambda stage, store: [])
    one, two, other = (Judged(key) for key in verdicts)

    def scored(stage: Judged, evaluation: str, label: str = "") -> Any:
        return SimpleNamespace(stage=stage, scorer="pairwise", label=label, evaluation=evaluation)

    paths = [
        [scored(one, "tasks"), scored(other, "general", "judge"), scored(Judged("mute"), "none")],
        [scored(two, "tasks"), scored(Judged("mean", one, two), "tasks")],
    ]
    planned: Any = SimpleNamespace(paths=[SimpleNamespace(scores=scores) for scores in paths])
    store: Any = None
    tasks, general = biased.bias_notes(planned, store)
    assert tasks.startswith("pairwise on tasks: the judge's verdict changes with the order in 67%")
    assert "of 3 contests; mean probability of the first place is 77%" in tasks
    assert tasks.endswith("(95%, over clusters of examples).")
    assert general.startswith("judge on general: the judge's verdict changes with the order in 0%")
