"""What a suite could show of its claims, before anything is spent."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.comparison import power
from harness.comparison.aligned import Runs
from harness.comparison.contrasts import Moved
from harness.comparison.costs import succeeded
from harness.comparison.differences import contrast_of
from harness.comparison.groups import Group
from harness.comparison.rows import AllScores, why_incomparable
from harness.comparison.scores import Column, Reader, Scores
from harness.comparison.share_contrasts import PairedShares
from harness.core.text import number_of
from harness.planning.claims import PlannedClaim
from harness.planning.planner import Plan
from harness.store.store import Store
from harness.suite.claims import CHANCE

_PAIRS = 20
"""The most pairs of variants in the store whose spread is looked at."""


@dataclass(frozen=True)
class ClaimPower:
    """What the data that a suite has could show of one claim.

    Attributes:
        n: how many examples there are; None until the rows are read.
        seeds: how many training runs the variant has.
        detectable: how far beyond the limit the truth must be so that 80% of such experiments show
            it; None if that is not known.
        gap: how far beyond the limit the truth is expected to be; None if nothing is expected.
        needed: how many examples would show that, 80% of the time.
        basis: where the spread is taken from.
    """

    claim: PlannedClaim
    n: int | None
    seeds: int
    detectable: float | None = None
    gap: float | None = None
    needed: int | None = None
    basis: str = ""

    def text(self) -> str:
        """The power in one line."""
        claim = self.claim.claim
        head = claim.name or claim.sentence(self.claim.variant, self.claim.against)
        size = "examples not read yet" if self.n is None else f"n {self.n:,}"
        sides = f"{size}, {self.seeds} seed{'s' if self.seeds != 1 else ''}"
        if self.detectable is None:
            known = "" if self.n is None else ": nothing is known of its spread until it is scored"
            return f"{head} ({sides}){known}"
        room = "inside both limits" if claim.relation == "equal" else "beyond its limit"
        if self.gap is None:
            room = room if claim.margin_size else ""
            rest = f"sees {self.detectable:.3g} {room}".rstrip() + "; half of that takes 4 times n"
        else:
            rest = f"sees {self.detectable:.3g} {room}; {self._would_do()}"
        return f"{head} ({sides}): {rest} ({self.basis})"

    def _would_do(self) -> str:
        """How many examples would show what is expected."""
        claim, gap = self.claim.claim, self.gap or 0.0
        expected = (
            "if there is no difference" if claim.expected is None
            else f"if the difference is {claim.expected:g}"
        )  # fmt: skip
        if gap <= 0:
            return f"{expected}, no number of examples shows it"
        if self.needed is None:
            return f"{expected}, more examples alone would not show it; more seeds would"
        return f"{expected}, {number_of(self.needed, 'example')} would do"


@dataclass(frozen=True)
class _Spread:
    """How much differences between examples spread.

    Attributes:
        variance: of the differences of examples, or of clusters of them for each example.
        fixed: the part of the squared standard error that more examples do not reduce.
        changed: the share of rows that are right on one side alone, for right and wrong answers.
        freedom: the degrees of freedom, where they are fewer than those of the examples.
        seeds: how many training runs `fixed` is about.
    """

    variance: float
    basis: str
    fixed: float = 0.0
    changed: float | None = None
    freedom: float = math.inf
    seeds: int = 1


def powers(planned: Plan, store: Store) -> list[ClaimPower]:
    """The power of each claim about a metric, in the suite's order."""
    claims = [claim for claim in planned.claims if not claim.cost]
    if not claims:
        return []
    scores = _stored(planned, store)
    return [_power(claim, planned, store, scores) for claim in claims]


def _stored(planned: Plan, store: Store) -> AllScores:
    """The scores of this suite's variants that are in the store."""
    stages = [*planned.data.values(), *(s for path in planned.paths for s in path.results())]
    records = {s.key: record for s in stages if (record := store.record(s)) is not None}
    read = Reader(records, store)
    groups: dict[str, dict[int, Mapping[Column, Scores]]] = {}
    for path in planned.paths:
        done = succeeded(replace(path, start=None), records)
        if done.scores:
            groups.setdefault(path.variant.group, {})[path.variant.seed] = read(done)
    return groups


def _power(claim: PlannedClaim, planned: Plan, store: Store, scores: AllScores) -> ClaimPower:
    seeds = sum(path.variant.group == claim.variant for path in planned.paths)
    column = claim.metric, claim.evaluation
    runs = {
        group: {seed: measured[column] for seed, measured in by_seed.items() if column in measured}
        for group, by_seed in scores.items()
    }
    runs = {group: by_seed for group, by_seed in runs.items() if by_seed}
    n = _examples(claim, planned, store, runs)
    spread = _measured(claim, runs, seeds) or _worst(claim)
    if n is None or n < 2 or spread is None:
        return ClaimPower(claim, n, seeds)
    alpha, both = claim.claim.alpha, claim.claim.relation == "equal"
    if spread.changed is not None and not claim.claim.margin_size:
        seen = power.mcnemar_detectable(n, spread.changed, alpha)
    else:
        error = math.sqrt(spread.variance / n + spread.fixed)
        seen = power.detectable(error, min(spread.freedom, n - 1), alpha, both=both)
    gap = _expected_gap(claim, runs)
    needed = None
    if gap is not None and gap > 0 and spread.changed is not None and not claim.claim.margin_size:
        needed = power.mcnemar_needed(spread.changed, gap, alpha)
    elif gap is not None:
        needed = power.examples_needed(spread.variance, gap, spread.fixed, alpha, both=both)
    return ClaimPower(claim, n, seeds, seen, gap, needed, spread.basis)


def _examples(
    claim: PlannedClaim, planned: Plan, store: Store, runs: Mapping[str, Runs]
) -> int | None:
    """How many examples the claim is decided on; None until they are read."""
    for by_seed in runs.values():
        return len(next(iter(by_seed.values())).keys.ids)
    rows = planned.data.get((claim.evaluation, "test"))
    record = None if rows is None else store.record(rows)
    return None if record is None or not record.ok else int(record.metrics["rows"])


def _measured(claim: PlannedClaim, runs: Mapping[str, Runs], seeds: int) -> _Spread | None:
    """The spread as scores in the store have it: of the same two variants if both are there, else
    the largest of those of other pairs; None if there is no pair."""
    if claim.constant is not None or claim.against == CHANCE:
        own = [claim.variant] if claim.variant in runs else list(runs)
        pairs = [(group, "") for group in own]
    elif claim.variant in runs and claim.against in runs:
        pairs = [(claim.variant, claim.against)]
    else:
        # Two uses of an untrained model are closer to one another than to what is trained.
        trained = {g for g, by_seed in runs.items() if next(iter(by_seed.values())).trained}
        both = itertools.combinations(runs, 2)
        pairs = list(itertools.islice((pair for pair in both if {*pair} & trained), _PAIRS))
    spreads = [spread for pair in pairs if (spread := _spread(claim, *pair, runs)) is not None]
    if not spreads:
        return None
    widest = max(spreads, key=lambda spread: spread.variance)
    if seeds > 1 and widest.fixed == 0:
        widest = replace(widest, basis=f"{widest.basis}; how seeds differ is not known yet")
    return replace(widest, fixed=widest.fixed * widest.seeds / seeds)


def _spread(claim: PlannedClaim, one: str, other: str, runs: Mapping[str, Runs]) -> _Spread | None:
    """How the differences of two variants spread, or the values of one; None if they do not."""
    group, base = Group.of(runs[one]), Group.of(runs[other]) if other else 0.0
    if isinstance(base, Group) and why_incomparable(group.first, base.first):
        return None
    contrast, n = contrast_of(group, base, claim.claim.times), group.first.sample.n
    basis = f"spread as between {one} and {other} in the store" if other else (
        f"spread as {one} has it in the store"
    )  # fmt: skip
    error = contrast.error()
    if error is None or error == 0:
        return None
    if isinstance(contrast, PairedShares):
        changed = (contrast.up + contrast.down) / contrast.rows
        # Where its rows are whole clusters, no test counts the changed ones among n examples.
        told = changed if contrast.rows == n else None
        return _Spread(n * error**2, basis, changed=told) if changed else None
    freedom = contrast.spread.freedom if isinstance(contrast, Moved) else math.inf
    variance = n * (error**2 - contrast.fixed())
    return _Spread(variance, basis, contrast.fixed(), None, freedom, len(group.scores))


def _worst(claim: PlannedClaim) -> _Spread | None:
    """The largest spread that values within known bounds can have: as if half of them lay at either
    end, and the two variants had nothing in common. None without bounds."""
    column = claim.column
    if column is None or (column.bounds is None and not column.guessed):
        return None
    least, most = column.bounds or (0.0, 1.0)
    if not math.isfinite(most - least):
        return None
    sides = 1 if claim.constant is not None or claim.against == CHANCE else 2
    return _Spread(sides * (most - least) ** 2 / 4, "nothing like it in the store: the worst case")


def _expected_gap(claim: PlannedClaim, runs: Mapping[str, Runs]) -> float | None:
    """How far beyond its limit the truth is expected to be; None if nothing is expected."""
    said, column = claim.claim, claim.column
    up = 1 if column is None or column.higher_is_better else -1
    margin = said.margin_size
    if said.relative:
        if claim.against not in runs:
            return None
        margin *= abs(float(Group.of(runs[claim.against]).runs.points.mean()))
    if said.expected is None and said.relation not in ("not_worse", "equal"):
        return None
    expected = said.expected or 0.0
    gaps = {
        "better": up * expected - margin,
        "worse": -up * expected - margin,
        "not_worse": up * expected + margin,
        "equal": margin - abs(expected),
        "at_most": -expected,
        "at_least": expected,
    }
    return gaps[said.relation]
