"""The verdicts on a suite's claims, from its variants' scores and costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.comparison.aligned import Runs
from harness.comparison.claims import Amount, ClaimVerdict, CostQuestion, Question, decide
from harness.comparison.costs import LONE_TIME, SAME, SAME_TIME, comparable
from harness.comparison.measured import Measured, Run, conditions_of
from harness.comparison.result import VariantResult
from harness.comparison.rows import AllScores
from harness.comparison.scores import Scores
from harness.planning.claims import PlannedClaim
from harness.planning.planner import Plan
from harness.suite.claims import COSTS, FASTER

_COUNTED = frozenset({"trainable_parameters", "parameters", "state_bytes", "checkpoint_bytes",
                      "tokens", "flops"})  # fmt: skip
"""Costs that are counted and not measured: they have no noise."""


def verdicts(
    planned: Plan,
    variants: Sequence[VariantResult],
    scores: AllScores,
    stored: Mapping[str, Mapping[int, Run]],
) -> list[ClaimVerdict]:
    """The verdict on each claim of a suite, in the suite's order.

    Args:
        scores: of the variants that have results.
        stored: the runs of each stored baseline that a claim names, by seed.
    """
    results = {variant.group: variant for variant in variants}
    questions = [
        _cost(claim, results)
        if claim.cost
        else _against_stored(claim, results, scores, stored[claim.against])
        if claim.against in stored
        else _question(claim, results, scores)
        for claim in planned.claims
    ]
    return decide(questions, planned.suite.correction)


def _question(
    claim: PlannedClaim, results: Mapping[str, VariantResult], scores: AllScores
) -> Question:
    metric = claim.metric or _first_metric(claim, scores)
    column = metric, claim.evaluation
    one, other = (
        {seed: columns[column] for seed, columns in scores.get(side, {}).items()
         if column in columns}
        for side in (claim.variant, claim.against)
    )  # fmt: skip
    reference: Runs | float | None = claim.constant
    if reference is None and claim.against in results:
        reference = other
    sides = [(claim.variant, one)]
    sides += [(claim.against, other)] if isinstance(reference, Mapping) else []
    failed = "; ".join(_why_failed(results[name]) for name, runs in sides if not runs)
    return Question(
        claim.claim, claim.variant, claim.against, metric, claim.evaluation, one, reference, failed
    )


def _against_stored(
    claim: PlannedClaim,
    results: Mapping[str, VariantResult],
    scores: AllScores,
    stored: Mapping[int, Run],
) -> Question:
    """The claim about a variant and a stored baseline, whose examples are matched by their ids."""
    question = _question(claim, results, scores)
    base = {
        seed: metric
        for seed, run in stored.items()
        for metric in run.metrics
        if (metric.metric, metric.evaluation) == (question.metric, question.evaluation)
    }
    unlike = [
        _unlike(run, metric) for run in question.candidate.values() for metric in base.values()
    ]
    if any(metric.examples is None for metric in base.values()):
        return replace(question, unlike="the stored baseline has no scores of examples")
    # The conditions are compared above; the rest of a suite's identities a file does not have.
    one = {
        seed: replace(run, version="", rows="", judge="", model="", template="")
        for seed, run in question.candidate.items()
    }
    other = {seed: metric.scores() for seed, metric in base.items()}
    return replace(question, candidate=one, reference=other, unlike=next(filter(None, unlike), ""))


def _unlike(scores: Scores, stored: Measured) -> str:
    """Why a stored metric is not the same as this one; empty if it is."""
    kind = replace(
        stored, aggregate=scores.sample.aggregate, higher_is_better=scores.higher_is_better,
        examples=None, conditions=conditions_of(scores),
    )  # fmt: skip
    return kind.why_not(stored)


def _first_metric(claim: PlannedClaim, scores: AllScores) -> str:
    """The first metric of a benchmark, for a claim that names the benchmark alone."""
    runs = scores.get(claim.variant, {}).values()
    names = (name for run in runs for name, evaluation in run if evaluation == claim.evaluation)
    return next(names, claim.evaluation)


def _why_failed(variant: VariantResult) -> str:
    return "; ".join(variant.reasons) or f"{variant.group} has no such score"


def _cost(claim: PlannedClaim, results: Mapping[str, VariantResult]) -> CostQuestion:
    key, sides = claim.metric, [results[claim.variant]]
    if claim.constant is None:
        sides.append(results[claim.against])
    failed = "; ".join(_why_failed(side) for side in sides if not side.has_result)
    amounts = [_amount(key, side) for side in sides]
    missing = [side.group for side, amount in zip(sides, amounts, strict=True) if amount is None]
    reason = _about(key, sides)
    if missing:
        reason = f"the {COSTS[key]} of {' and '.join(missing)} was not measured"
    elif len(sides) > 1 and not _alike(key, *sides):
        amounts = [None, None]
        reason = "measured beside other work, or on another device or with other threads"
    if claim.constant is not None:
        amounts.append(Amount(claim.constant, claim.constant, claim.constant))
    one, other = amounts
    return CostQuestion(claim.claim, claim.variant, claim.against, key, one, other, reason, failed)


def _amount(key: str, variant: VariantResult) -> Amount | None:
    """A variant's cost with its range over seeds and what is not told apart from that; None if it
    was not measured."""
    value = variant.cost.get(key)
    if value is None and not variant.trained and key not in (*FASTER, "parameters"):
        value = 0.0  # an untrained model has no costs of training
    if value is None or not math.isfinite(value):
        return None
    low, high = variant.spread.get(key, (value, value))
    noise = math.sqrt(1.0 if key in _COUNTED else _noise(key, variant))
    return Amount(value, min(low, value) / noise, max(high, value) * noise, len(variant.seeds))


def _noise(key: str, variant: VariantResult) -> float:
    """How many times greater a measured cost may be by chance alone."""
    if key.startswith("peak_"):
        return SAME
    return LONE_TIME if len(variant.seeds) == 1 else SAME_TIME


def _about(key: str, sides: Sequence[VariantResult]) -> str:
    """What a reader must know of how a cost was measured."""
    if key in _COUNTED or key.startswith("peak_"):
        return ""
    times = max(_noise(key, side) for side in sides)
    return f"as times do not repeat exactly, one counts as greater only from {times:g} times on"


def _alike(key: str, one: VariantResult, other: VariantResult) -> bool:
    """Whether two costs were measured under the same conditions, where that matters."""
    if key == "tokens_per_second":
        return comparable(one.answering, other.answering)
    return key not in ("train_seconds", "joules", "mfu") or comparable(one.timed, other.timed)
