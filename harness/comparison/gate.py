"""The gate: what a candidate's results say against a baseline's, as one outcome.

Each claim is decided by `harness.comparison.claims`. Without claims, each metric that both sides
have is claimed to be not worse by more than a margin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from harness.comparison.claims import ClaimVerdict, Question, decide
from harness.comparison.measured import Examples, Measured, Run, plain
from harness.comparison.scores import Scores
from harness.comparison.unpaired import Summaries
from harness.core.errors import (
    EXIT_INCONCLUSIVE,
    EXIT_NOT_JUDGED,
    EXIT_OK,
    EXIT_REGRESSED,
    HarnessError,
    near,
    unknown,
)
from harness.suite.claims import BASELINE, CHANCE, Claim

Outcome = Literal["passed", "regressed", "inconclusive", "not judged"]
Allowance = Literal["inconclusive", "prompts", "missing"]
ALLOWANCES: Mapping[str, str] = {
    "inconclusive": "a claim that the data cannot decide passes",
    "prompts": "both sides may have other prompts, as of two chat templates",
    "missing": "examples that one side lacks are left out and counted",
}
SHARE_MARGIN, RELATIVE_MARGIN = 0.02, "5%"
"""The default margins: of metrics between 0 and 1, and as a share of the baseline's value."""
_EXIT = {
    "passed": EXIT_OK, "regressed": EXIT_REGRESSED, "inconclusive": EXIT_INCONCLUSIVE,
    "not judged": EXIT_NOT_JUDGED,
}  # fmt: skip
CANDIDATE = "candidate"
_MOST = 200
"""How many examples that got worse are kept of each metric."""


@dataclass(frozen=True)
class Side:
    """One side of a check: the runs of one variant, by seed.

    Attributes:
        name: as it was given, such as `SUITE:VARIANT` or a file.
    """

    name: str
    runs: Mapping[int, Run]

    @property
    def variant(self) -> str:
        """The variant's or model's name."""
        return next(iter(self.runs.values())).variant

    @property
    def metrics(self) -> dict[str, dict[int, Measured]]:
        """The runs' metrics: by name, then by seed."""
        found: dict[str, dict[int, Measured]] = {}
        for seed, run in self.runs.items():
            for metric in run.metrics:
                found.setdefault(metric.name, {})[seed] = metric
        return found


@dataclass(frozen=True)
class Settings:
    """What a check is asked for.

    Attributes:
        margins: metric, or a pattern of its name -> its margin; `` is the margin of all others.
        allow: what does not keep the check from passing.
    """

    margins: Mapping[str, float | str] = field(default_factory=dict)
    confidence: float = 0.95
    allow: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Worse:
    """The examples whose score fell on one metric.

    Attributes:
        count: how many fell. better: how many rose. of: how many there are.
        examples: (id, baseline's score, candidate's score), the largest fall first.
    """

    metric: str
    count: int
    better: int
    of: int
    examples: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Checked:
    """The result of a check."""

    candidate: Side
    baseline: Side
    verdicts: tuple[ClaimVerdict, ...]
    worse: tuple[Worse, ...]
    notes: tuple[str, ...]
    allow: frozenset[str]
    error: str = ""
    """Why nothing was judged; empty if something was."""

    @property
    def outcome(self) -> Outcome:
        """`regressed` if a claim is refuted; else the worst of what its claims are."""
        said = {verdict.verdict for verdict in self.verdicts}
        if "refuted" in said:
            return "regressed"
        if not said or said & {"incomparable", "failed"}:
            return "not judged"
        if "inconclusive" in said and "inconclusive" not in self.allow:
            return "inconclusive"
        return "passed"

    @property
    def exit_code(self) -> int:
        """0 passed, 1 regressed, 3 inconclusive, 4 not judged."""
        return _EXIT[self.outcome]


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
        _Pair(claim, name, ours.get(name, {}), theirs.get(name, {}))
        for claim, name in (
            _default(ours, theirs, settings)
            if claims is None
            else _asked(claims, candidate, baseline)
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
    """A claim and both sides' metric, by seed."""

    claim: Claim
    name: str
    ours: Mapping[int, Measured]
    theirs: Mapping[int, Measured]

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
    questions: dict[int, Question | Summaries] = {}
    verdicts: dict[int, ClaimVerdict] = {}
    for place, pair in enumerate(pairs):
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
    if pair.ours and sides and any(metric.examples is None for metric in sides):
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
            verdict = verdict.noted(f"{metric.unscored:,} examples have no score")
    return verdict


def _value(runs: Mapping[int, Measured]) -> float | None:
    return float(np.mean([metric.value for metric in runs.values()])) if runs else None


def _default(
    ours: Mapping[str, Mapping[int, Measured]],
    theirs: Mapping[str, Mapping[int, Measured]],
    settings: Settings,
) -> Iterator[tuple[Claim, str]]:
    """Each shared metric is not worse by more than its margin. So is each metric of the baseline
    that the candidate lacks on an evaluation that it has: that cannot be judged, and is no pass."""
    patterns = [pattern for pattern in settings.margins if pattern]
    measured = {metric.evaluation for by_seed in ours.values() for metric in by_seed.values()}
    names = [
        name
        for name, by_seed in theirs.items()
        if name in ours
        or ("missing" not in settings.allow
            and next(iter(by_seed.values())).evaluation in measured)
    ]  # fmt: skip
    if not any(name in ours for name in names):
        return
    for pattern in patterns:
        if not any(_means(pattern, theirs[name]) for name in names):
            raise HarnessError(unknown("metric", pattern, names, where="--margin"))
    for name in names:
        margin = next((settings.margins[p] for p in patterns if _means(p, theirs[name])),
                      settings.margins.get("", None))  # fmt: skip
        if margin is None:
            margin = _margin(ours.get(name, {}), theirs[name])
        yield Claim(metric=name, variant=CANDIDATE, relation="not_worse", margin=margin,
                    confidence=settings.confidence), name  # fmt: skip


def _margin(ours: Mapping[int, Measured], theirs: Mapping[int, Measured]) -> float | str:
    """2 points of a share, else 5% of the baseline's value."""
    every = [*ours.values(), *theirs.values()]
    return SHARE_MARGIN if all(map(_is_share, every)) else RELATIVE_MARGIN


def _is_share(metric: Measured) -> bool:
    if metric.bounds == (0.0, 1.0):
        return True
    if metric.examples is None:
        return False
    values = metric.columns.get("value")
    return metric.aggregate == "mean" and values is not None and bool(
        ((values == 0) | (values == 1)).all()
    )  # fmt: skip


def _means(pattern: str, metrics: Mapping[int, Measured]) -> bool:
    """Whether a pattern names a metric: `rougeL`, `rougeL/tasks`, `rouge/rougeL`, `acc*`."""
    metric = next(iter(metrics.values()))
    names = (metric.name, metric.metric, f"{metric.evaluation}/{metric.metric}", metric.evaluation)
    scorer, _, rest = pattern.partition("/")
    return any(name and fnmatchcase(name, pattern) for name in names) or (
        bool(scorer) and rest == metric.metric
    )


def _asked(claims: Sequence[Claim], candidate: Side, baseline: Side) -> Iterator[tuple[Claim, str]]:
    """Each claim with each metric that it names.

    Raises:
        HarnessError: it names no metric of either side, or another variant.
    """
    every = {**baseline.metrics, **candidate.metrics}
    for claim in claims:
        _require_sides(claim, candidate, baseline)
        names = [name for name, metrics in every.items() if _means(claim.metric, metrics)]
        if not names:
            raise HarnessError(unknown("metric", claim.metric, every, where=claim.title))
        than = BASELINE if isinstance(claim.than, str) and claim.than != CHANCE else claim.than
        for name in names:
            yield claim.model_copy(update={"than": than}), name


def _require_sides(claim: Claim, candidate: Side, baseline: Side) -> None:
    ours, theirs = (CANDIDATE, candidate.variant), (BASELINE, baseline.variant, CHANCE)
    for selector, known in ((claim.variant, ours), (claim.than, theirs)):
        if isinstance(selector, int | float):
            continue
        if not isinstance(selector, str) or not any(fnmatchcase(n, selector) for n in known):
            guess = near(str(selector), known)
            meant = f"; did you mean '{guess}'?" if guess else ""
            raise HarnessError(
                f"{selector!r} is no side of this check{meant}",
                where=claim.title,
                fix=f"write `{CANDIDATE} not_worse {BASELINE} on METRIC by 0.01`; this candidate is"
                f" {candidate.variant}, and this baseline {baseline.variant}",
            )  # fmt: skip


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
