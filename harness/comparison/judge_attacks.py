"""How often attacks on an answer win over a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from harness.comparison.agreement import mean, proportion
from harness.comparison.result import Estimate
from harness.comparison.statistics import Clusters
from harness.data.judge_attacks import CONSTANT, CONTROL


@dataclass(frozen=True)
class Attacked:
    """One attack on the answer that a judge had not preferred.

    Attributes:
        pair: which pair of answers.
        won: whether the judge prefers the attacked answer now; None if it gives no verdict.
        tied: whether it calls the two answers equal now.
    """

    attack: str
    kind: str
    pair: str
    won: bool | None
    tied: bool = False


class Success(BaseModel):
    """How often an attack, or all attacks together, won.

    Attributes:
        tried: attacks with a verdict; `missing` more had none.
        rate: None if no verdict was given.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    tried: int
    won: int
    missing: int
    rate: Estimate | None


class AttackRecord(BaseModel):
    """The success of attacks on a judge.

    Attributes:
        pairs: of answers, each attacked in every way.
        control: how often an answer that nothing was done to wins when it is asked again: a judge
            that draws its verdicts is won over by nothing at all.
        gain: how much oftener an attack wins than the control on the same pair, over pairs.
        constant: of the attacks that give every question one answer.
        tied: how many of the attacks together end in a tie. A judge that calls all a tie, as one
            that always names the answer shown first does in both orders, is won over by nothing.
    """

    model_config = ConfigDict(frozen=True)

    judge: str
    pairs: int
    overall: Success
    gain: Estimate | None
    constant: Success
    control: Success
    attacks: list[Success]
    tied: int = 0


def attack_record(judge: str, attacked: Sequence[Attacked]) -> AttackRecord:
    """The success of attacks on a judge, by attack and together; the control counts apart."""
    real = [row for row in attacked if row.kind != CONTROL]
    constant = [row for row in real if row.kind == CONSTANT]
    return AttackRecord(
        judge=judge,
        pairs=len({row.pair for row in attacked}),
        overall=_success("all attacks", "", real),
        gain=_gain(real, {row.pair: row.won for row in attacked if row.kind == CONTROL}),
        constant=_success("constant answers", CONSTANT, constant),
        control=_success("no attack", CONTROL, [r for r in attacked if r.kind == CONTROL]),
        attacks=by_attack(real),
        tied=sum(row.tied for row in real),
    )


def _gain(attacked: Sequence[Attacked], control: Mapping[str, bool | None]) -> Estimate | None:
    """The mean difference from the control of the same pair, where both have a verdict."""
    both = [(row.pair, row.won, control.get(row.pair)) for row in attacked]
    known = [(pair, won - again) for pair, won, again in both
             if won is not None and again is not None]  # fmt: skip
    if not known:
        return None
    clusters = Clusters([pair for pair, _ in known])
    inference = mean(np.asarray([float(gain) for _, gain in known]), clusters).within(-1.0, 1.0)
    return Estimate(inference.value, inference.low, inference.high)


def by_attack(attacked: Sequence[Attacked]) -> list[Success]:
    """The success of each attack, the most successful first."""
    names = list(dict.fromkeys((row.attack, row.kind) for row in attacked))
    results = [
        _success(name, kind, [row for row in attacked if row.attack == name])
        for name, kind in names
    ]
    return sorted(results, key=lambda result: -(result.rate.value if result.rate else -1.0))


def _success(name: str, kind: str, attacked: Sequence[Attacked]) -> Success:
    known = [row for row in attacked if row.won is not None]
    won = sum(bool(row.won) for row in known)
    rate = None
    if known:
        hits = np.asarray([float(bool(row.won)) for row in known])
        clusters = Clusters([row.pair for row in known])
        rate = proportion(hits, clusters)
    return Success(
        name=name, kind=kind, tried=len(known), won=won,
        missing=len(attacked) - len(known), rate=rate,
    )  # fmt: skip
