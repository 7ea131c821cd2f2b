"""Notes on judges: how much the order and the length of answers matter to them, and how far the
members of a panel agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.comparison.agreement import alpha, mean, proportion
from harness.comparison.judged_verdicts import Said, rankings_of, said_in
from harness.comparison.result import Estimate
from harness.comparison.statistics import Clusters
from harness.core.text import number_of
from harness.data.contests import Compared, Standing, Verdict
from harness.planning.graph import Plan
from harness.stages.score import judging_stages
from harness.store.stage import Stage
from harness.store.store import Store


def bias_notes(planned: Plan, store: Store) -> Iterator[str]:
    """A sentence for each judged score over the contests of all variants. The variants answer the
    same examples, so that the intervals are over clusters of these."""
    asked: dict[str, dict[str, Stage]] = {}
    for path in planned.paths:
        for scored in path.scores:
            name = f"{scored.label or scored.scorer} on {scored.evaluation}"
            by_key = {stage.key: stage for stage in judging_stages(scored.stage)}
            asked.setdefault(name, {}).update(by_key)
    for name, stages in asked.items():
        said = [one for stage in stages.values() for one in said_in(stage, store).values()]
        lists = [one for stage in stages.values() for one in rankings_of(stage, store)]
        if parts := [*_of_contests(said), *_of_lists(lists)]:
            yield f"{name}: the judge's {'; '.join(parts)} (95%, over clusters of examples)."
        yield from (f"{name}: {told}" for told in _of_panel(said))


def _of_contests(said: Sequence[Said]) -> Iterator[str]:
    both = [s for s in said if s.compared.asked and len(s.compared.known) == 2]
    if both:
        clusters = Clusters([s.cluster for s in both])
        flips = np.asarray([float(s.compared.flips) for s in both])
        known = [s.compared.known for s in both]
        first = np.asarray([(one + 1 - exchanged) / 2 for one, exchanged in known])
        changed = _text(proportion(flips, clusters))
        yield f"verdict changes with the order in {changed} of {number_of(len(both), 'contest')}"
        yield f"mean probability of the first place is {_text(_mean(first, clusters))}"
    unequal = [s for s in said if s.compared.asked and s.sign and s.lengths[0] != s.lengths[1]]
    if unequal:
        longer = [float((s.lengths[0] > s.lengths[1]) == (s.sign == 1)) for s in unequal]
        share = proportion(np.asarray(longer), Clusters([s.cluster for s in unequal]))
        yield f"choice is the longer answer in {_text(share)} of {len(unequal)}"


def _of_panel(said: Sequence[Said]) -> Iterator[str]:
    """How far the members of a panel agree: Krippendorff's alpha of win, tie and loss. Each contest
    counts in both orders, since which answer is called the first one is chance."""
    asked = [s for s in said if s.compared.asked and len(s.compared.members) > 1]
    if not asked:
        return
    rated = [[_sign(orders) for orders in s.compared.members.values()] for s in asked]
    turned = [[None if sign is None else -sign for sign in unit] for unit in rated]
    agreed = alpha([*rated, *turned], Clusters([s.cluster for s in asked] * 2))
    contests = number_of(len(asked), "contest")
    if agreed is None:
        yield f"the members of the panel say one thing of {contests}: their agreement is unknown."
        return
    interval = "" if agreed.low is None else f" ({agreed.low:.2f} to {agreed.high:.2f})"
    yield (
        f"the members of the panel agree with Krippendorff's alpha {agreed.value:.2f}{interval} on"
        f" {contests}; chance has 0, full agreement 1."
    )


def _sign(orders: tuple[Verdict, ...]) -> int | None:
    decided = Compared(orders).decided
    return None if decided is None else int(2 * decided - 1)


def _of_lists(lists: Sequence[tuple[str, Sequence[Standing]]]) -> Iterator[str]:
    """Of rankings in several orders: whether the best answer stays the best, and what the first
    place is worth.

    Args:
        lists: the cluster of each example, and how the answers to it stand.
    """
    known = [(cluster, of) for cluster, of in lists
             if of[0].asked and all(one.reason is None for one in of)]  # fmt: skip
    if not known:
        return
    clusters = Clusters([cluster for cluster, _ in known])
    orders = range(len(known[0][1][0].orders))
    if len(orders) > 1:
        flips = [float(len({_best(of, order) for order in orders}) > 1) for _, of in known]
        changed = _text(proportion(np.asarray(flips), clusters))
        yield f"best answer changes with the order in {changed} of {number_of(len(known), 'list')}"
    first = [np.mean([_first(of, order) for order in orders]) for _, of in known]
    share = _text(_mean(np.asarray(first), clusters))
    yield f"first place stands above {share} of the others"


def _best(of: Sequence[Standing], order: int) -> frozenset[int]:
    """The answers that stand highest in one order."""
    shares = [float(one.orders[order]) for one in of]
    return frozenset(place for place, share in enumerate(shares) if share == max(shares))


def _first(of: Sequence[Standing], order: int) -> float:
    """The share of the others that the answer in the first place stands above."""
    return next(float(one.orders[order]) for one in of if one.places[order] == 0)


def _mean(values: np.ndarray, clusters: Clusters) -> Estimate:
    inference = mean(values, clusters).within(0.0, 1.0)
    return Estimate(inference.value, inference.low, inference.high)


def _text(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.0%}"
    return f"{estimate.value:.0%} ({estimate.low:.0%} to {estimate.high:.0%})"
