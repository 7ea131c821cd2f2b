"""From pairwise verdicts to a ranking: the matrix of win rates, strengths, and ranges of ranks.

Strengths are those of Bradley & Terry (1952, doi:10.2307/2334029), P(i beats j) =
sigmoid(s_i - s_j), a tie being half a win for each, as evalica computes them. Their intervals are
the bootstrap's over clusters of prompts, so that all verdicts on one prompt are drawn together. As
on Chatbot Arena (Chiang et al., 2024, arXiv:2403.04132), a rank is a range where intervals overlap.

Each side of a pair that met gets one win more (the conjugate prior of Davidson & Solomon, 1973,
doi:10.1093/biomet/60.3.477), so that who never lost has a finite strength too. The bootstrap draws
these as it draws verdicts, so that a win or two make no sure rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.comparison.intervals import CONFIDENCE
from harness.comparison.result import Estimate
from harness.comparison.statistics import Array, Clusters

_FLOOR = 0.02
"""Wins that each side of a pair has at least in a round of the bootstrap, so that its strength is
finite where no verdict for it is drawn."""
_ROUNDS, _SEED = 1000, 0


class Verdict(NamedTuple):
    """One verdict on answers of two models to a prompt.

    Attributes:
        won: the probability that `one` has the better answer; 1/2 for a tie.
    """

    cluster: str
    one: str
    other: str
    won: float


@dataclass(frozen=True)
class Ranked:
    """A model's place.

    Attributes:
        strength: log-odds against a model of mean strength, with its interval.
        best, worst: the range of its rank: one more than the models that are surely above it, and
            the number of models that are not surely below it.
    """

    name: str
    strength: Estimate
    best: int
    worst: int

    @property
    def rank(self) -> str:
        """The rank as text, such as `2` or `2-4`."""
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def linked(verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
    """The verdicts, split into groups whose models no chain of verdicts links with the others."""
    group: dict[str, set[str]] = {}
    for verdict in verdicts:
        joined = group.get(verdict.one, {verdict.one}) | group.get(verdict.other, {verdict.other})
        group |= dict.fromkeys(joined, joined)
    groups: dict[int, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(id(group[verdict.one]), []).append(verdict)
    return list(groups.values())


def win_matrix(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], tuple[float, int]]:
    """(model, other model) -> the mean of its verdicts against the other, and their number."""
    sums: dict[tuple[str, str], list[float]] = {}
    for verdict in verdicts:
        sums.setdefault((verdict.one, verdict.other), []).append(verdict.won)
        sums.setdefault((verdict.other, verdict.one), []).append(1 - verdict.won)
    return {pair: (sum(won) / len(won), len(won)) for pair, won in sums.items()}


def ranking(verdicts: Sequence[Verdict], rounds: int = _ROUNDS, seed: int = _SEED) -> list[Ranked]:
    """The models from the strongest to the weakest.

    Args:
        rounds: of the bootstrap.

    Raises:
        ValueError: some models met the others neither directly nor through third ones, so that
            their strengths cannot be compared; or there is no verdict.
    """
    if not verdicts:
        raise ValueError("there is no verdict to rank by")
    names = list(dict.fromkeys(name for v in verdicts for name in (v.one, v.other)))
    clusters = Clusters([v.cluster for v in verdicts])
    wins = _wins(verdicts, names, clusters)
    total = wins.sum(axis=0)
    met = (total + total.T) > 0
    _require_linked(met, names)
    points = _strengths(total + met)
    drawn = _drawn(wins, met, rounds, np.random.default_rng(seed))
    tail = 100 * (1 - CONFIDENCE) / 2
    lows, highs = np.percentile(drawn, [tail, 100 - tail], axis=0)
    ranked = [
        Ranked(
            name, Estimate(float(points[i]), float(lows[i]), float(highs[i])),
            1 + int((lows > highs[i]).sum()), len(names) - int((highs < lows[i]).sum()),
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    return sorted(ranked, key=lambda model: -model.strength.value)


def _drawn(wins: Array, met: NDArray[np.bool_], rounds: int, random: np.random.Generator) -> Array:
    """The strengths in each round of the bootstrap over clusters, shape (rounds, models)."""
    prior = np.zeros((int(met.sum()), *met.shape))
    prior[np.arange(len(prior)), *np.nonzero(met)] = 1.0
    pool = np.concatenate([wins, prior])
    shares = np.full(len(pool), 1 / len(pool))
    totals = (np.tensordot(random.multinomial(len(pool), shares), pool, 1) for _ in range(rounds))
    return np.asarray([_strengths(total + _FLOOR * met) for total in totals])


def _wins(verdicts: Sequence[Verdict], names: Sequence[str], clusters: Clusters) -> Array:
    """How often each model won against each other one, by cluster: (clusters, models, models)."""
    places = {name: place for place, name in enumerate(names)}
    wins = np.zeros((clusters.count, len(names), len(names)))
    for verdict, cluster in zip(verdicts, clusters.index, strict=True):
        one, other = places[verdict.one], places[verdict.other]
        wins[cluster, one, other] += verdict.won
        wins[cluster, other, one] += 1 - verdict.won
    return wins


def _require_linked(met: NDArray[np.bool_], names: Sequence[str]) -> None:
    """Refuse models that no chain of verdicts links with the first one."""
    reached = np.arange(len(names)) == 0
    for _ in names:
        reached = reached | (met @ reached)
    if not reached.all():
        apart = ", ".join(name for name, is_in in zip(names, reached, strict=True) if not is_in)
        raise ValueError(f"no verdict compares {apart} with {names[0]}, directly or through others")


def _strengths(wins: Array) -> Array:
    """Log strengths with mean 0: wins, shape (models, models) -> (models,)."""
    import evalica  # it brings pandas, which takes longer to import than all else of a report
    import pandas as pd

    many = len(wins)
    one, other = (places.ravel().tolist() for places in np.indices((many, many)))
    result = evalica.bradley_terry(
        one, other, [evalica.Winner.X] * len(one), index=pd.RangeIndex(many),
        weights=wins.ravel().tolist(), tolerance=1e-8, limit=10_000,
    )  # fmt: skip
    logs = np.log(result.scores.sort_index().to_numpy())
    return np.asarray(logs - logs.mean())
