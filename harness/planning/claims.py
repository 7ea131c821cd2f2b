"""Resolves the names in a suite's claims before anything is spent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.core.errors import SuiteError, joined, near, unknown
from harness.planning.selectors import Pairing, pairs, select
from harness.planning.unmeasured import how_to_measure
from harness.suite.claims import BASELINE, CHANCE, COSTS, EVERY, STORED, Claim
from harness.variants.called import Labels


@dataclass(frozen=True)
class Column:
    """A metric that a suite measures.

    Attributes:
        metric: as reports call it; empty for a benchmark whose metrics are known once it has run.
        even: the value that means no difference from the baseline, for a metric that compares with
            the baseline itself.
        bounds: the least and the greatest value that an example can have, if they are known.
        guessed: what guessing reaches may be known once it has run.
        first: whether it is a benchmark's first metric, which the benchmark's name alone means;
            None: it is of no benchmark.
        label: of its scorer; empty if it has none.
        told: of a benchmark that has not run, for which `metric` is empty: whether its other
            columns are all of its metrics.
    """

    scorer: str
    metric: str
    evaluation: str
    even: float | None = None
    bounds: tuple[float, float] | None = None
    guessed: bool = False
    higher_is_better: bool = True
    first: bool | None = None
    label: str = ""
    told: bool = False

    def among(self, other: Column) -> bool:
        """Whether another column is this one, or has its metrics among those not known yet."""
        known = other.metric or self.metric
        return (self.scorer, self.metric, self.evaluation) == (
            other.scorer, known, other.evaluation,
        )  # fmt: skip

    def names(self) -> Iterator[str]:
        """What a claim may call it, the most exact first."""
        if self.label and (not self.metric or self.first):
            yield from (f"{self.label}/{self.evaluation}", self.label)
        if not self.metric:
            yield from (self.evaluation, f"{self.scorer}/{self.evaluation}")
            return
        if self.first is not None:
            yield f"{self.evaluation}/{self.metric}"
        if self.first:
            yield self.evaluation
        if self.first is not False:
            yield f"{self.scorer}/{self.evaluation}"
        yield from (
            f"{self.scorer}/{self.metric}/{self.evaluation}", f"{self.metric}/{self.evaluation}",
            f"{self.scorer}/{self.metric}", self.metric,
        )  # fmt: skip


@dataclass(frozen=True)
class PlannedClaim:
    """A claim about one variant, with all names resolved.

    Attributes:
        place: where the suite has the claim.
        against: a variant, a number as text, or `chance`.
        metric: as reports call it, or the key of a cost; empty for the first metric of a benchmark.
        evaluation: empty for a cost.
        constant: what it is compared with, if that is a number.
        cost: whether it is about a cost.
        column: what is planned of the metric; None for a cost.
    """

    claim: Claim
    place: str
    variant: str
    against: str
    metric: str
    evaluation: str
    constant: float | None = None
    cost: bool = False
    column: Column | None = None


@dataclass(frozen=True)
class Asked:
    """The claims of a suite about single variants, and what they leave out.

    Attributes:
        notes: which variants a claim means and says nothing of, with the reason.
    """

    claims: tuple[PlannedClaim, ...]
    notes: tuple[str, ...]


def planned_claims(
    claims: Sequence[Claim],
    variants: Labels,
    columns: Mapping[str, Sequence[Column]],
    baselines: Mapping[str, str],
) -> Asked:
    """Every claim about every variant that it means.

    Args:
        variants: all of the suite's variants, with their labels.
        columns: variant -> what is measured of it, for those that are run.
        baselines: variant -> the variant that it is compared with.

    Raises:
        SuiteError: a claim names a metric that is not measured, or a variant that is not there.
    """
    each, wrong = [], list[str]()
    for index, claim in enumerate(claims):
        try:
            each.append(_of(claim, f"claims[{index}]", variants, columns, baselines))
        except SuiteError as error:
            wrong.append(str(error))
    if wrong:
        raise SuiteError(joined(wrong))
    return Asked(
        tuple(planned for asked in each for planned in asked.claims),
        tuple(note for asked in each for note in asked.notes),
    )


def _of(
    claim: Claim,
    place: str,
    variants: Labels,
    columns: Mapping[str, Sequence[Column]],
    baselines: Mapping[str, str],
) -> Asked:
    compared, left_out = _compared(claim, place, variants, baselines)
    notes = _left_out(place, left_out, "they differ from the other side on more axes than the rest;"
                      " `every variant` leaves none out")  # fmt: skip
    cost = cost_key(claim.metric)
    if cost:
        _refuse_cost(claim, place, variants)
        return Asked(tuple(
            PlannedClaim(claim, place, variant, against, cost, "", constant, cost=True)
            for variant, against, constant in compared
        ), notes)  # fmt: skip
    try:
        column = find_column(
            claim.metric, {c for listed in columns.values() for c in listed}, place
        )
    except SuiteError:
        pairs = [(variant, against) for variant, against, _ in compared]
        if not all({*pair} & variants.keys() - columns.keys() for pair in pairs):
            raise
        # Of variants that are not run, the metric may be theirs alone; none of these is decided.
        return Asked(tuple(
            PlannedClaim(claim, place, variant, against, claim.metric, "", constant)
            for variant, against, constant in compared
        ), notes)  # fmt: skip
    measured = {n for n, listed in columns.items() if any(map(column.among, listed))}
    if _is_guessing(claim, variants) and not column.guessed:
        message = f"what guessing reaches on {claim.metric} is not known"
        raise SuiteError(message, where=f"{place}.than", fix="say a number instead of `chance`")
    missing, planned = dict[str, None](), []
    for variant, against, constant in compared:
        own = constant is None and baselines.get(variant) == against
        if column.even is not None and own and against not in measured:
            against, constant = f"{column.even:g}", column.even
        sides = (variant, against) if constant is None else (variant,)
        lacking = [side for side in sides if side in columns and side not in measured]
        missing.update(dict.fromkeys(lacking))
        if not lacking:
            planned.append(PlannedClaim(
                claim, place, variant, against, column.metric, column.evaluation, constant,
                column=column,
            ))  # fmt: skip
    if not planned:
        raise SuiteError(
            f"{next(iter(missing))} has no {claim.metric}: the suite does not score it by that",
            where=f"{place}.metric",
            fix="leave the claim out, or say another metric",
        )
    unscored = _left_out(place, missing, f"the suite does not score them by {claim.metric}")
    return Asked(tuple(planned), (*notes, *unscored))


def _left_out(place: str, names: Iterable[str], reason: str) -> tuple[str, ...]:
    listed = ", ".join(names)
    return (f"{place} says nothing of {listed}: {reason}",) if listed else ()


def _compared(
    claim: Claim, place: str, variants: Labels, baselines: Mapping[str, str]
) -> tuple[list[tuple[str, str, float | None]], tuple[str, ...]]:
    """(variant, what it is compared with, that as a number) of each pair, and the variants that are
    in no pair.

    Raises:
        SuiteError: a selector means no variant, or both mean the same one.
    """
    ones, than = select(claim.variant, variants, f"{place}.variant"), claim.than
    if isinstance(than, int | float):
        return [(one, f"{than:g}", float(than)) for one in ones], ()
    if _is_guessing(claim, variants) or _is_stored(claim):
        return [(one, str(than), None) for one in ones], ()
    if than == BASELINE and BASELINE not in variants:
        with_one = [(one, baselines[one]) for one in ones if baselines.get(one, one) != one]
        pairing = Pairing(tuple(with_one), ())
    else:
        others = select(than, variants, f"{place}.than")
        same = set(others) == set(ones) and than != EVERY
        pairing = pairs(ones, [] if same else others, variants, claim.variant, than)
    if not pairing.pairs:
        raise SuiteError(f"{', '.join(ones)} would be compared with itself", where=f"{place}.than")
    return [(one, other, None) for one, other in pairing.pairs], pairing.left_out


def about_these(
    asked: Sequence[PlannedClaim], run: Mapping[str, object], everyone: Labels
) -> tuple[tuple[PlannedClaim, ...], tuple[str, ...]]:
    """The claims about variants that are run, and warnings about the others.

    Args:
        run: by the names of the variants that are run. everyone: by the names of all.
    """
    kept, left_out = [], dict[str, dict[str, None]]()
    for claim in asked:
        away = {claim.variant, claim.against} & everyone.keys() - run.keys()
        if away:
            left_out.setdefault(claim.place, {}).update(dict.fromkeys(sorted(away)))
        else:
            kept.append(claim)
    warnings = (
        f"{place} is not decided for {', '.join(names)}, which --only leaves out"
        for place, names in left_out.items()
    )
    return tuple(kept), tuple(warnings)


def cost_key(metric: str) -> str:
    """The key of the cost that a claim calls so; empty if it is none."""
    known = {**{key: key for key in COSTS}, **{name: key for key, name in COSTS.items()}}
    return known.get(metric.removeprefix("cost/"), "")


def _is_guessing(claim: Claim, variants: Labels) -> bool:
    """Whether it compares with what guessing reaches, and not with a variant of that name."""
    return claim.than == CHANCE and CHANCE not in variants


def _is_stored(claim: Claim) -> bool:
    return isinstance(claim.than, str) and claim.than.startswith(STORED)


def _refuse_cost(claim: Claim, place: str, variants: Labels) -> None:
    if _is_stored(claim):
        raise SuiteError("a stored baseline has no costs", where=f"{place}.than")
    if _is_guessing(claim, variants):
        raise SuiteError(f"nobody guesses a {COSTS[cost_key(claim.metric)]}", where=f"{place}.than")


def find_column(metric: str, known: Iterable[Column], place: str) -> Column:
    """The column that a claim calls so.

    Raises:
        SuiteError: none or several are called so.
    """
    columns = _distinct(known)
    matching = [column for column in columns if metric in column.names()]
    # Of a benchmark that has run for some variants alone, the metrics are known.
    known_ones = [column for column in matching if column.metric]
    matching = [
        column
        for column in matching
        if column.metric or not any(k.among(column) and k.label == column.label for k in known_ones)
    ]
    # A benchmark whose metrics are not known yet may have any: `TASK/acc`, `acc/TASK`.
    for column in columns if not matching else ():
        ends = (f"{column.evaluation}/", f"/{column.evaluation}")
        open_ended = not column.metric and not column.told
        if open_ended and (metric.startswith(ends[0]) or metric.endswith(ends[1])):
            name = metric.removeprefix(ends[0]).removesuffix(ends[1])
            if not re.search(r" (?:by|within|at|with) ", name):  # no metric, but half of a claim
                return replace(column, metric=name)
    if len(matching) == 1:
        return matching[0]
    if matching:
        listed = ", ".join(f"{c.metric or c.label or 'METRIC'}/{c.evaluation}" for c in matching)
        raise SuiteError(
            f"'{metric}' is measured more than once", where=f"{place}.metric", fix=f"say {listed}"
        )
    raise SuiteError(_unknown_metric(metric, columns), where=f"{place}.metric")


def _distinct(columns: Iterable[Column]) -> list[Column]:
    """Each metric once, in order; of a benchmark that has run for some variants alone, as these
    have it."""
    by_first = sorted(columns, key=lambda c: (c.evaluation, c.metric, c.label, not c.first))
    distinct: dict[tuple[str, str, str, str], Column] = {}
    for column in by_first:
        distinct.setdefault((column.scorer, column.metric, column.evaluation, column.label), column)
    return list(distinct.values())


def _unknown_metric(metric: str, columns: Sequence[Column]) -> str:
    """The message for an unknown metric: the nearest name, in whichever of its forms, the metrics
    and the costs."""
    forms = {name for column in columns for name in column.names() if column.metric in name}
    here = how_to_measure(metric, [*forms, *COSTS, *COSTS.values()])
    nearest = "" if here else near(metric, [*forms, *COSTS, *COSTS.values()])
    names = {list(column.names())[-1] for column in columns}
    costs = ", ".join(cost for cost in COSTS if cost != nearest)
    known = {*names, nearest} if nearest else names
    return unknown("metric", metric, known, hint=f"or a cost: {costs}", here=here)
