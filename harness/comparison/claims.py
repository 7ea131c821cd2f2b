"""Decides claims: supported, refuted or inconclusive, with the numbers behind it.

A claim says that a difference lies beyond some value, its *limit*: for `not_worse` by 0.01, above
-0.01. It is supported if the whole interval of the claim's confidence lies beyond the limit,
refuted if the whole interval lies short of it, and inconclusive otherwise. So non-inferiority is
read off the interval, and `equal`, which has a limit on each side, is the two one-sided tests of
Schuirmann (1987, doi:10.1007/BF01068419), each at half of the error that the confidence leaves.

`p` is the level at which the interval reaches the limit. It is adjusted over all claims that are
decided together: by Holm (1979), or by Benjamini & Hochberg (1995).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.comparison.aligned import Runs, Unaligned, aligned
from harness.comparison.caveats import about_margin, about_seeds, noise_of
from harness.comparison.contrasts import Contrast, Ranged
from harness.comparison.differences import contrast_of
from harness.comparison.groups import Group
from harness.comparison.limits import Limit, by_range, detectable, limits_of, p_of
from harness.comparison.result import ClaimVerdict, Estimate, Outcome
from harness.comparison.rows import why_incomparable
from harness.comparison.scores import Scores
from harness.comparison.unpaired import Summaries
from harness.comparison.verdicts import benjamini_hochberg, holm
from harness.core.text import number_of
from harness.suite.claims import CHANCE, FASTER, Claim

__all__ = ["Amount", "ClaimVerdict", "CostQuestion", "Outcome", "Question", "decide"]

Correction = Literal["holm", "bh"]


@dataclass(frozen=True)
class Question:
    """A claim about one variant and what it is compared with.

    Attributes:
        variant, against: their names; `against` may be a number or `chance` as text.
        metric, evaluation: the metric as reports call it, and its data entry.
        candidate: the variant's runs, by seed.
        reference: the other's runs, or a constant; None for what guessing reaches.
        failed: why there is nothing to decide; empty if there is.
        unlike: why the two sides cannot be compared; empty if they can, as far as is known.
    """

    claim: Claim
    variant: str
    against: str
    metric: str
    evaluation: str = ""
    candidate: Runs = field(default_factory=dict)
    reference: Runs | float | None = None
    failed: str = ""
    unlike: str = ""


@dataclass(frozen=True)
class Amount:
    """What a variant costs: the mean over its runs, with the range that is not told apart from
    it."""

    value: float
    low: float
    high: float
    seeds: int = 1


@dataclass(frozen=True)
class CostQuestion:
    """A claim about the cost of one variant.

    Attributes:
        metric: the key of the cost, in harness.suite.claims.COSTS.
        candidate, reference: None if it was not measured.
        reason: what limits the comparison, or why there is none.
        failed: why there is nothing to decide; empty if there is.
    """

    claim: Claim
    variant: str
    against: str
    metric: str
    candidate: Amount | None
    reference: Amount | None
    reason: str = ""
    failed: str = ""


def decide(
    questions: Sequence[Question | CostQuestion | Summaries], correction: Correction = "holm"
) -> list[ClaimVerdict]:
    """The verdict on each claim, in order, with p adjusted over all of them."""
    found = [_numbers(question) for question in questions]
    family = {i: p for i, (verdict, _) in enumerate(found) if (p := verdict.p) is not None}
    adjust = holm if correction == "holm" else benjamini_hochberg
    verdicts = [verdict for verdict, _ in found]
    for i, p in zip(family, adjust(list(family.values())), strict=True):
        verdict, limits = found[i]
        verdicts[i] = _decided(replace(verdict, p_adjusted=p), limits, len(family))
    return verdicts


def _numbers(
    question: Question | CostQuestion | Summaries,
) -> tuple[ClaimVerdict, Sequence[Limit]]:
    """The numbers of a claim before the adjustment, with its limits."""
    if isinstance(question, Summaries):
        return question.measured()
    return _cost(question) if isinstance(question, CostQuestion) else _measured(question)


def _cost(question: CostQuestion) -> tuple[ClaimVerdict, Sequence[Limit]]:
    """The verdict on a claim about a cost. Amounts are no samples, so that there is no p."""
    one, other, claim = question.candidate, question.reference, question.claim
    up = 1 if question.metric in FASTER else -1
    verdict = ClaimVerdict(
        claim, question.variant, question.against, question.metric, "",
        "failed" if question.failed else "incomparable", level="cost",
        reason=question.failed or question.reason, higher_is_better=up == 1,
    )  # fmt: skip
    if one is None or other is None or question.failed:
        return verdict, ()

    def contrast(ratio: float) -> Ranged:
        ends = one.low - ratio * other.high, one.high - ratio * other.low
        return Ranged(one.value - ratio * other.value, *ends, question.reason)

    verdict = replace(verdict, estimate=one.value, reference=other.value, seeds=one.seeds)
    limits = limits_of(claim, up, contrast)
    return _told(verdict, contrast(claim.times), limits), limits


def _measured(question: Question) -> tuple[ClaimVerdict, Sequence[Limit]]:
    """The numbers of a claim before the adjustment, with its limits."""
    first = _declared(question)
    verdict = ClaimVerdict(
        question.claim, question.variant, question.against, question.metric, question.evaluation,
        "failed" if question.failed else "incomparable", reason=question.failed,
        unit="" if first is None else first.unit,
        higher_is_better=first is None or first.higher_is_better,
    )  # fmt: skip
    if question.failed:
        return verdict, ()
    try:
        candidate, reference, note = _sides(question)
    except Unaligned as error:
        return replace(verdict, reason=str(error)), ()
    group = Group.of(candidate)
    base = reference if isinstance(reference, float) else Group.of(reference)
    if isinstance(base, Group) and (reason := why_incomparable(group.first, base.first)):
        return replace(verdict, reason=reason), ()  # it does not count the same examples
    looks = question.claim.looks
    up = 1 if group.first.higher_is_better else -1
    limits = limits_of(question.claim, up, lambda ratio: contrast_of(group, base, ratio, looks))
    shown = contrast_of(group, base, question.claim.times, looks)
    verdict = replace(_counted(verdict, group, base), verdict="inconclusive")
    told = replace(
        _told(verdict, shown, limits), noise=noise_of(shown, group, base, question.claim.times)
    )
    if group.first.doubt:
        told = replace(told, p=None)  # whatever its figures are, they support and refute nothing
    told = told.noted(group.first.doubt).noted(note)
    return told.noted(about_margin(question.claim, base)), limits


def _declared(question: Question) -> Scores | None:
    """Scores of either side, which say which way is better and in what unit; None if both lack
    them."""
    sides = question.candidate, question.reference
    runs = (run for side in sides if isinstance(side, Mapping) for run in side.values())
    return next(runs, None)


def _sides(question: Question) -> tuple[Runs, Runs | float, str]:
    """Both sides on the same examples, and a note on those that were left out.

    Raises:
        Unaligned: they cannot be compared.
    """
    candidate, reference = question.candidate, question.reference
    if question.unlike:
        raise Unaligned(question.unlike)
    if not candidate:
        raise Unaligned(f"{question.variant} has no {question.metric}")
    if not all(run.sample.n for run in candidate.values()):
        raise Unaligned("there are no examples")
    if reference is None and question.against == CHANCE:
        reference = next(iter(candidate.values())).chance
        if reference is None:
            raise Unaligned(f"what guessing reaches on {question.metric} is not known")
    if reference is None or (isinstance(reference, Mapping) and not reference):
        raise Unaligned(f"{question.against} has no {question.metric}")
    shared = question.claim.examples == "shared"
    if not isinstance(reference, Mapping):
        candidate, _, note = aligned(candidate, {}, shared=shared)
        return candidate, float(reference), note
    candidate, reference, note = aligned(candidate, reference, shared=shared)
    first = next(iter(reference.values()))
    for run in (*candidate.values(), *reference.values()):
        if reason := why_incomparable(run, first):
            raise Unaligned(reason)
    return candidate, reference, note


def _counted(verdict: ClaimVerdict, group: Group, base: Group | float) -> ClaimVerdict:
    """The verdict with its numbers of examples, seeds, and what these limit."""
    several = group.runs.several or (isinstance(base, Group) and base.runs.several)
    verdict = replace(
        verdict,
        n=len(group.first.keys.ids),
        clusters=group.first.keys.together.count,
        seeds=len(group.scores),
        level="method" if several else "checkpoint",
        estimate=float(group.runs.points.mean()),
        reference=base if isinstance(base, float) else float(base.runs.points.mean()),
        unit=group.first.unit,
        higher_is_better=group.first.higher_is_better,
    )
    return verdict.noted(about_seeds(group, base))


def _told(verdict: ClaimVerdict, shown: Contrast, limits: Sequence[Limit]) -> ClaimVerdict:
    """The verdict with its difference and p."""
    ends = shown.interval(verdict.claim.alpha)
    low, high = (None, None) if ends is None else ends
    verdict = replace(
        verdict,
        difference=Estimate(shown.value, low, high),
        detectable=detectable(limits, verdict.claim.alpha),
    ).noted(shown.reason)
    if isinstance(shown, Ranged):
        return replace(verdict, verdict=by_range(verdict.claim, limits))
    return replace(verdict, p=p_of(limits))


def _decided(verdict: ClaimVerdict, limits: Sequence[Limit], family: int) -> ClaimVerdict:
    """The verdict that the adjusted p gives."""
    p, adjusted = verdict.p, verdict.p_adjusted
    assert p is not None
    assert adjusted is not None
    if adjusted < verdict.claim.alpha:
        outcome: Outcome = "supported" if all(limit.gap > 0 for limit in limits) else "refuted"
        return replace(verdict, verdict=outcome)
    if p < verdict.claim.alpha:
        verdict = verdict.noted(
            f"p {p:.2g} by itself, {adjusted:.2g} over {number_of(family, 'claim')}"
        )
    nearest = min(limits, key=lambda limit: abs(limit.gap))
    # What the adjustment leaves of the error, so that as many examples would do beside the others.
    alpha = verdict.claim.alpha * p / adjusted
    needed, reason = nearest.contrast.needed(nearest.null, alpha, verdict.n)
    return replace(verdict, needed=needed).noted(reason)
