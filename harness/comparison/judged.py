"""Judges a candidate by a baseline: each claim is decided by `harness.comparison.claims`, if the
two sides can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.comparison.claims import ClaimVerdict, CostQuestion, Question, decide
from harness.comparison.cost_claims import cost_question
from harness.comparison.gate import Checked, Settings, Side, Worse
from harness.comparison.gate_claims import asked_claims, default_claims
from harness.comparison.measured import Examples, Measured, plain
from harness.comparison.run_costs import result_of_runs
from harness.comparison.scores import Scores
from harness.comparison.unpaired import Summaries
from harness.core.text import number_of
from harness.suite.claims import BASELINE, COSTS, Claim

_MOST = 200
"""How many examples that got worse are kept of each metric."""


def judge(
    candidate: Side, baseline: Side, claims: Sequence[Claim] | None, settings: Settings
) -> Checked:
    """Judge a candidate by its baseline.

    Args:
        claims: None to claim of each shared metric that it is not worse by more than its margin.

    Raises:
        HarnessError: a claim or a margin names a metric or variant that neither side has.
    """
    ours, theirs = candidate.metrics, baseline.metrics
    pairs = [
        _Pair(claim, name, {}, {}, about_cost=True)
        if name in COSTS and name not in ours and name not in theirs
        else _Pair(claim, name, ours.get(name, {}), theirs.get(name, {}))
        for claim, name in (
            default_claims(ours, theirs, settings)
            if claims is None
            else asked_claims(claims, candidate, baseline)
        )
    ]
    verdicts = _decided(pairs, candidate, baseline, settings)
    return Checked(
        candidate, baseline, tuple(verdicts),
        tuple(worse for pair in pairs if (worse := pair.worse()) is not None),
        tuple(_notes(candidate, baseline, claims is None)), settings.allow,
    )  # fmt: skip


@dataclass(frozen=True)
class _Pair:
    """A claim and both sides' metric, by seed; of a claim about a cost, `name` is its key."""

    claim: Claim
    name: str
    ours: Mapping[int, Measured]
    theirs: Mapping[int, Measured]
    about_cost: bool = False

    @property
    def first(self) -> Measured:
        """The candidate's metric, or the baseline's if the candidate lacks it."""
        return next(iter([*self.ours.values(), *self.theirs.values()]))

    def why_not(self, settings: Settings) -> str:
        """Why both sides cannot be compared, as far as their conditions tell."""
        if not self.ours or not self.theirs:
            return ""
        base, prompts = next(iter(self.theirs.values())), "prompts" in settings.allow
        every = [*self.ours.values(), *self.theirs.values()]
        return next(filter(None, (m.why_not(base, prompts=prompts) for m in every)), "")

    def alike(self) -> bool:
        """Whether every example has the same score on both sides, run by run."""
        if self.ours.keys() != self.theirs.keys():
            return False
        return all(_equal(metric, self.theirs[seed]) for seed, metric in self.ours.items())

    def worse(self) -> Worse | None:
        """The examples whose score fell; None if scores of examples are not known."""
        if not self.ours or not self.theirs:
            return None
        ours, theirs = next(iter(self.ours.values())), next(iter(self.theirs.values()))
        if ours.aggregate != "mean" or ours.examples is None or theirs.examples is None:
            return None
        if theirs.aggregate != "mean":
            return None
        mine, other = ours.examples.shared(theirs.examples)
        one, two = ours.columns["value"][mine], theirs.columns["value"][other]
        gain = (one - two) * (1 if ours.higher_is_better else -1)
        order = np.argsort(gain, kind="stable")[: min(_MOST, int((gain < 0).sum()))]
        ids = ours.examples.ids.take(mine[order]).to_pylist()
        examples = [
            (identifier, float(two[place]), float(one[place]))
            for identifier, place in zip(ids, order, strict=True)
        ]
        return Worse(self.name, int((gain < 0).sum()), int((gain > 0).sum()), len(gain),
                     tuple(examples))  # fmt: skip


def _equal(one: Measured, other: Measured) -> bool:
    if one.examples is None or other.examples is None:
        return False
    return (
        one.columns.keys() == other.columns.keys()
        and one.examples.ids.equals(other.examples.ids)
        and all(np.array_equal(c, other.columns[name]) for name, c in one.columns.items())
    )


def _decided(
    pairs: Sequence[_Pair], candidate: Side, baseline: Side, settings: Settings
) -> list[ClaimVerdict]:
    questions: dict[int, Question | Summaries | CostQuestion] = {}
    verdicts: dict[int, ClaimVerdict] = {}
    for place, pair in enumerate(pairs):
        if pair.about_cost:
            questions[place] = _cost(pair, candidate, baseline)
            continue
        blank = ClaimVerdict(pair.claim, candidate.variant, _against(pair.claim, baseline),
                             pair.first.metric, pair.first.evaluation, "incomparable",
                             higher_is_better=pair.first.higher_is_better)  # fmt: skip
        if pair.claim.than == BASELINE and (reason := pair.why_not(settings)):
            verdicts[place] = replace(blank, reason=f"{reason}{_HINTS.get(reason[:20], '')}")
        elif _kept(pair.claim) and pair.alike():
            verdicts[place] = _unchanged(blank, pair)
        else:
            questions[place] = _question(pair, blank, settings)
    decided = decide(list(questions.values()))
    verdicts |= dict(zip(questions, decided, strict=True))
    return [_limited(verdicts[place], pair) for place, pair in enumerate(pairs)]


def _cost(pair: _Pair, candidate: Side, baseline: Side) -> CostQuestion:
    than = pair.claim.than
    against = (
        float(than)
        if isinstance(than, float | int)
        else result_of_runs(baseline.runs, baseline.variant)
    )
    ours = result_of_runs(candidate.runs, candidate.variant)
    return cost_question(pair.claim, pair.name, ours, against)


_HINTS = {"not the same prompts": " (--allow prompts compares them all the same)"}
"""The beginning of a reason -> the option that allows it."""


def _kept(claim: Claim) -> bool:
    """Whether a claim holds for two sides that are alike."""
    return claim.than == BASELINE and claim.relation in ("not_worse", "equal")


def _unchanged(blank: ClaimVerdict, pair: _Pair) -> ClaimVerdict:
    metric = pair.first
    return replace(
        blank, verdict="supported", estimate=metric.value, reference=metric.value,
        n=metric.n or 0, seeds=len(pair.ours), level="checkpoint",
        reason="every example has the same score on both sides",
    )  # fmt: skip


def _against(claim: Claim, baseline: Side) -> str:
    return baseline.variant if claim.than == BASELINE else str(claim.than)


def _question(pair: _Pair, blank: ClaimVerdict, settings: Settings) -> Question | Summaries:
    claim = pair.claim
    if "missing" in settings.allow:
        claim = claim.model_copy(update={"examples": "shared"})
    constant = float(claim.than) if isinstance(claim.than, float | int) else None
    sides = [*pair.ours.values(), *(pair.theirs.values() if claim.than == BASELINE else ())]
    if any(metric.examples is None for metric in sides):
        other = tuple(pair.theirs.values()) if claim.than == BASELINE else constant
        return Summaries(claim, blank, tuple(pair.ours.values()), other)
    if not all(metric.original for metric in sides):
        # A file has no such scores, and its conditions were compared above.
        pair = replace(pair, ours=plain(pair.ours), theirs=plain(pair.theirs))
    examples: list[Examples] = []
    scores = {seed: _with_shared(metric, examples) for seed, metric in pair.ours.items()}
    reference: dict[int, Scores] | float | None = constant
    if claim.than == BASELINE:
        reference = {seed: _with_shared(metric, examples) for seed, metric in pair.theirs.items()}
    return Question(claim, blank.variant, blank.against, blank.metric, blank.evaluation, scores,
                    reference)  # fmt: skip


def _with_shared(metric: Measured, known: list[Examples]) -> Scores:
    """The metric's scores. Equal lists of examples are one object, so that no list of a million
    names is compared with another."""
    if metric.original is not None or metric.examples is None:
        return metric.scores()
    for examples in known:
        if examples.alike(metric.examples):
            return replace(metric, examples=examples).scores()
    known.append(metric.examples)
    return metric.scores()


def _limited(verdict: ClaimVerdict, pair: _Pair) -> ClaimVerdict:
    """The verdict with both sides' values, and with what limits the metric on either side."""
    if verdict.verdict in ("incomparable", "failed"):
        ours, theirs = (_value(side) for side in (pair.ours, pair.theirs))
        known = replace(verdict, estimate=ours) if verdict.estimate is None else verdict
        verdict = replace(known, reference=theirs) if known.reference is None else known
        reason = verdict.reason.replace("`examples: shared`", "--allow missing")
        verdict = replace(verdict, reason=reason)
    for metric in [*list(pair.ours.values())[:1], *list(pair.theirs.values())[:1]]:
        if metric.note:
            verdict = verdict.noted(metric.note)
        if metric.unscored:
            verdict = verdict.noted(f"{number_of(metric.unscored, 'example')} without a score")
    return verdict


def _value(runs: Mapping[int, Measured]) -> float | None:
    return float(np.mean([metric.value for metric in runs.values()])) if runs else None


def _notes(candidate: Side, baseline: Side, every: bool) -> Iterator[str]:
    told = [note for side in (candidate, baseline) for run in side.runs.values()
            for note in run.notes]  # fmt: skip
    yield from dict.fromkeys(told)
    if not every:
        return
    for side, other in ((candidate, baseline), (baseline, candidate)):
        alone = [name for name in side.metrics if name not in other.metrics]
        if alone:
            which = "candidate" if side is candidate else "baseline"
            more = f" and {len(alone) - 8} more" if len(alone) > 8 else ""
            yield f"Not compared, as only the {which} has them: {', '.join(alone[:8])}{more}."
