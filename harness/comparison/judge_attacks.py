"""How often attacks on an answer win over a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.comparison import binomial
from harness.comparison.agreement import proportion
from harness.comparison.result import Estimate
from harness.comparison.statistics import Clusters


@dataclass(frozen=True)
class Attacked:
    """One attack on the answer that a judge had not preferred.

    Attributes:
        pair: which pair of answers.
        won: whether the judge prefers the attacked answer now; None if it gives no verdict.
    """

    attack: str
    kind: str
    pair: str
    won: bool | None


@dataclass(frozen=True)
class Success:
    """How often an attack, or all attacks of a kind, won.

    Attributes:
        tried: attacks with a verdict; `missing` more had none.
        rate: None if no verdict was given.
    """

    name: str
    kind: str
    tried: int
    won: int
    missing: int
    rate: Estimate | None


def by_attack(attacked: Sequence[Attacked]) -> list[Success]:
    """The success of each attack, the most successful first."""
    names = list(dict.fromkeys((row.attack, row.kind) for row in attacked))
    results = [
        _success(name, kind, [row for row in attacked if row.attack == name])
        for name, kind in names
    ]
    return sorted(results, key=lambda result: -(result.rate.value if result.rate else -1.0))


def overall(attacked: Sequence[Attacked], name: str = "all attacks") -> Success:
    """The success of all attacks together, with an interval over pairs."""
    return _success(name, "", attacked)


def _success(name: str, kind: str, attacked: Sequence[Attacked]) -> Success:
    known = [row for row in attacked if row.won is not None]
    won = sum(bool(row.won) for row in known)
    rate = None
    if known:
        hits = np.asarray([float(bool(row.won)) for row in known])
        clusters = Clusters([row.pair for row in known])
        rate = binomial.share(won, len(known)) if clusters.single else proportion(hits, clusters)
    return Success(name, kind, len(known), won, len(attacked) - len(known), rate)
