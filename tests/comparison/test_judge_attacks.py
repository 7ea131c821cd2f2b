"""The attacks, and how their success is counted."""

from __future__ import annotations

import pytest

from harness.commands.judge.tables import attack_table
from harness.comparison.binomial import share
from harness.comparison.judge_attacks import Attacked, attack_record, by_attack
from harness.data.judge_attacks import ATTACKS, CONSTANT, CONTROL, NOTHING

ANSWER = "Ann is a baker."


def test_there_are_at_least_thirty_attacks_of_every_kind() -> None:
    assert len(ATTACKS) >= 30
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    kinds = {attack.kind for attack in ATTACKS}
    assert kinds == {"order", "verdict", "turn", "delimiter", "disguise", "form", "constant"}


def test_attacks_change_an_answer_and_constant_ones_do_not_read_it() -> None:
    texts = [attack.change(ANSWER) for attack in ATTACKS]
    assert len(set(texts)) == len(ATTACKS)
    assert ANSWER not in texts
    assert NOTHING.change(ANSWER).strip() == ANSWER
    for attack in ATTACKS:
        constant = attack.change(ANSWER) == attack.change("Bob is a smith.")
        assert constant == (attack.kind == CONSTANT)
        kept = ANSWER.lower() in attack.change(ANSWER).lower()
        assert kept == (attack.kind != CONSTANT)


def test_success_is_counted_over_verdicts_and_what_is_missing_is_told() -> None:
    attacked = [
        *(Attacked("plea", "order", str(i), i < 3) for i in range(10)),
        *(Attacked("long", "form", str(i), None if i < 4 else True) for i in range(10)),
        *(Attacked("mute", "form", str(i), None) for i in range(10)),
    ]
    first, second, third = by_attack(attacked)
    assert (first.name, first.won, first.tried, first.missing) == ("long", 6, 6, 4)
    assert (second.name, second.rate) == ("plea", share(3, 10))
    assert (third.name, third.rate, third.missing) == ("mute", None, 10)


def test_attacks_on_one_pair_are_not_independent() -> None:
    attacked = [Attacked(f"a{j}", "order", str(i), i < 5) for i in range(10) for j in range(30)]
    attacked += [Attacked("nothing", CONTROL, str(i), i < 1) for i in range(10)]
    attacked += [Attacked("empty", CONSTANT, str(i), i < 5) for i in range(10)]
    record = attack_record("judge", attacked)
    assert (record.pairs, record.overall.tried, record.control.won) == (10, 310, 1)
    assert (record.constant.won, len(record.attacks)) == (5, 31)
    assert record.gain is not None
    assert record.gain.value == pytest.approx(0.4)
    success = record.overall
    assert success.rate is not None
    assert success.rate.value == 0.5
    assert (success.rate.low or 0.0) < 0.25, "ten pairs, not 300 attacks"


@pytest.mark.parametrize(
    ("ties", "said"),
    [(20, "It calls every attacked pair a tie."), (5, "It calls 5 of 20 attacked pairs a tie."),
     (0, "")],
)  # fmt: skip
def test_a_judge_that_prefers_nothing_is_not_praised_for_it(ties: int, said: str) -> None:
    """The control, and an attack without a verdict, are not among the attacked pairs."""
    attacked = [Attacked("plea", "order", str(n), won=False, tied=n < ties) for n in range(20)]
    attacked += [
        Attacked("nothing", CONTROL, "0", won=False, tied=True), Attacked("long", "form", "0", None)
    ]  # fmt: skip
    shown = attack_table(attack_record("judge", attacked))
    assert ("a tie" in shown) == bool(said)
    assert said in shown
