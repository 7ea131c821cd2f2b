"""The verdicts on a suite's claims, from its variants' scores and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.comparison.aligned import Runs
from harness.comparison.claims import ClaimVerdict, CostQuestion, Question, decide
from harness.comparison.cost_claims import cost_question
from harness.comparison.measured import Measured, Run, conditions_of
from harness.comparison.result import VariantResult
from harness.comparison.rows import AllScores
from harness.comparison.scores import Scores
from harness.planning.claims import PlannedClaim
from harness.planning.planner import Plan


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
    variant = results[claim.variant]
    other = claim.constant if claim.constant is not None else results[claim.against]
    sides = [side for side in (variant, other) if isinstance(side, VariantResult)]
    failed = "; ".join(_why_failed(side) for side in sides if not side.has_result)
    question = cost_question(claim.claim, claim.metric, variant, other, failed)
    return replace(question, variant=claim.variant, against=claim.against)
