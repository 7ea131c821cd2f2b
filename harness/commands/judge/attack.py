"""`harness judge attack`: whether a suite's judge can be won over by what an answer contains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.commands.judge import tables
from harness.commands.judge.asking import compared
from harness.commands.judge.pairs import answer_like, data_pairs, own_pairs
from harness.commands.session import Opened
from harness.comparison.judge_attacks import Attacked, attack_record
from harness.comparison.judged_verdicts import Said, said_in
from harness.comparison.kept_credentials import keep
from harness.core.errors import StageFailed
from harness.core.files import digest_json
from harness.core.text import number_of
from harness.data.cells import content
from harness.data.judge_attacks import ATTACKS, NOTHING, Attack
from harness.data.judge_labels import Pair, read_labels
from harness.planning.judging import judge_called
from harness.scheduling.schedule import Reporter


@dataclass(frozen=True)
class _Attempt:
    """An attack on one answer of a pair.

    Attributes:
        side: 1 if answer `one` was attacked, -1 if the other.
    """

    attack: Attack
    of: Pair
    side: int

    @property
    def pair(self) -> Pair:
        """The pair with the attacked answer."""
        answer = self.of.one if self.side == 1 else self.of.other
        text = self.attack.change(content(answer))
        changed = answer_like(self.of.prompt, text)
        sides = {"one": changed} if self.side == 1 else {"other": changed}
        return replace(self.of, id=f"{self.of.id} {self.attack.name}", **sides)


def attack(
    opened: Opened,
    *,
    judge: str | None = None,
    labels: Path | None = None,
    entry: str | None = None,
    count: int = 10,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> str:
    """Attack the answers that the judge does not prefer, and return how often that wins. One that
    rates or ranks prefers what it rates higher, or ranks first of two.

    Args:
        labels: attack the pairs of this file of labels.
        entry: attack chosen and rejected answers of this data entry; else those of the suite.
        count: how many pairs.

    Raises:
        HarnessError: answers are not there yet.
        StageFailed: the judge failed, or gave no verdict without an attack.
    """
    judged = judge_called(opened.plan, judge)
    if labels is not None:
        known = {label.pair.id: label.pair for label in read_labels(labels)}
        pairs = list(known.values())[:count]
    elif entry is not None:
        pairs = [pair for _, pair, _ in data_pairs(opened, entry, count, seed)]
    else:
        pairs = own_pairs(opened, judged, count, seed)
    (asked,) = compared(opened, judged, pairs, 1, reporter)
    before = said_in(asked, opened.store)
    attempts = list(_attempts(pairs, before))
    if not attempts:
        raise StageFailed(
            "judge", f"the judge gave no verdict on any of {number_of(len(pairs), 'pair')}"
        )
    (again,) = compared(opened, judged, [attempt.pair for attempt in attempts], 1, reporter)
    after = said_in(again, opened.store)
    attacked = [_attacked(attempt, after[attempt.pair.id]) for attempt in attempts]
    record = attack_record(judge or judged.name, attacked)
    digest = digest_json([pair.id for pair in pairs])
    path = keep(opened.store.root, judged.identity, digest, record)
    return f"{tables.attack_table(record)}\n\nkept for the report: {path}"


def _attempts(pairs: Sequence[Pair], before: Mapping[str, Said]) -> Iterator[_Attempt]:
    """Every attack on the answer of each pair that the judge does not prefer."""
    for pair in pairs:
        decided = before[pair.id].sign
        if decided is None:
            continue
        for one in (*ATTACKS, NOTHING):
            yield _Attempt(one, pair, -1 if decided == 1 else 1)


def _attacked(attempt: _Attempt, after: Said) -> Attacked:
    decided = after.sign
    won = None if decided is None else decided == attempt.side
    return Attacked(attempt.attack.name, attempt.attack.kind, attempt.of.id, won, decided == 0)
