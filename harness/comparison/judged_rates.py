"""How often each judge of a suite prefers each variant: raw, length-controlled, and as a rank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from harness.comparison.judged_verdicts import Said, said_of, won_in
from harness.comparison.rankings import Ranked, Verdict, linked, ranking, win_matrix
from harness.comparison.result import JudgedRank, JudgedRate
from harness.comparison.statistics import Clusters
from harness.comparison.win_rates import Contests, length_controlled, win_rate
from harness.planning.duels import Duel, duels
from harness.planning.judging import judges_of
from harness.planning.planner import Plan
from harness.store.store import Store

_LEAST_RANKED = 3
"""Models that a ranking has at least: of two, the win rate says all."""
_ROUNDS = 400
"""Rounds of the bootstrap of the strengths in a report."""

Fought = Mapping[str, Said]
"""Example id -> what the judge said."""


def judged_rates(planned: Plan, store: Store) -> tuple[JudgedRate, ...]:
    """A line for each variant and what its answers were compared with, by each judge."""
    return tuple(
        rate
        for name, judged in judges_of(planned).items()
        for rate in _of_judge(name, [(d, said_of(d, store)) for d in duels(planned, judged)])
    )


def _of_judge(judge: str, fought: Sequence[tuple[Duel, Fought]]) -> Iterator[JudgedRate]:
    fought = [(duel, said) for duel, said in fought if won_in(said)]
    ranks = _ranks(fought)
    alike: dict[tuple[str, str], dict[str, Contests]] = defaultdict(dict)
    for duel, said in fought:
        alike[duel.other, duel.evaluation][duel.one] = _contests(said)
    controlled = {key: length_controlled(models) for key, models in alike.items()}
    for duel, said in fought:
        won = np.asarray(list(won_in(said).values()))
        rate = win_rate(won, Clusters([said[name].cluster for name in won_in(said)]))
        place = ranks.get((duel.one, duel.evaluation))
        yield JudgedRate(
            judge, duel.one, duel.other, duel.evaluation, len(won), len(said) - len(won),
            rate.wins, rate.ties, rate.losses, rate.estimate,
            controlled[duel.other, duel.evaluation][duel.one].estimate,
            place.strength if place else None, place.rank if place else "",
        )  # fmt: skip


def _contests(said: Fought) -> Contests:
    won = won_in(said)
    excess = [float(said[name].lengths[0] - said[name].lengths[1]) for name in won]
    clusters = [said[name].cluster for name in won]
    return Contests(list(won), np.asarray(list(won.values())), np.asarray(excess), clusters)


def judged_ranks(planned: Plan, store: Store) -> tuple[JudgedRank, ...]:
    """The variants that a judge compared with one another and not with one baseline alone, the
    strongest first."""
    return tuple(
        rank
        for name, judged in judges_of(planned).items()
        for rank in _ranked(name, [(d, said_of(d, store)) for d in duels(planned, judged)])
    )


def _ranked(judge: str, fought: Sequence[tuple[Duel, Fought]]) -> Iterator[JudgedRank]:
    for evaluation, verdicts in _verdicts(fought).items():
        for group in linked(verdicts):
            won = win_matrix(group)
            names = list(dict.fromkeys(one for one, _ in won))
            if len(won) / 2 < len(names):  # a tree: most often all against one baseline
                continue
            for model in ranking(group, _ROUNDS):
                against = {other: won[model.name, other] for other in names
                           if (model.name, other) in won}  # fmt: skip
                yield JudgedRank(judge, model.name, evaluation, model.strength, model.rank, against)


def _ranks(fought: Sequence[tuple[Duel, Fought]]) -> dict[tuple[str, str], Ranked]:
    """(model, evaluation) -> its place among the models that verdicts link with it."""
    ranks: dict[tuple[str, str], Ranked] = {}
    for evaluation, some in _verdicts(fought).items():
        for group in linked(some):
            if len({name for v in group for name in (v.one, v.other)}) >= _LEAST_RANKED:
                ranks |= {(r.name, evaluation): r for r in ranking(group, _ROUNDS)}
    return ranks


def _verdicts(fought: Sequence[tuple[Duel, Fought]]) -> dict[str, list[Verdict]]:
    """Evaluation -> the verdicts on its examples."""
    verdicts: dict[str, list[Verdict]] = defaultdict(list)
    for duel, said in fought:
        verdicts[duel.evaluation] += [
            Verdict(said[name].cluster, duel.one, duel.other, won)
            for name, won in won_in(said).items()
        ]
    return verdicts
