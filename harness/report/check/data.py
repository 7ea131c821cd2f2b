"""A check as JSON, with its schema (docs/check.schema.json)."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.comparison.claims import ClaimVerdict
from harness.comparison.gate import CANDIDATE, Checked, Side, Worse
from harness.comparison.measured import Run
from harness.comparison.result import Estimate
from harness.core.text import csv_cell, rewrite, visible, well_formed
from harness.report.check import words
from harness.suite.claims import BASELINE, Claim

VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class SideData(_Model):
    """One side of a check."""

    name: str
    """As it was given: SUITE:VARIANT, a file, a folder, or a stored baseline."""
    variant: str
    """The variant's or model's name."""
    seeds: list[int]
    """The seeds of its runs."""
    sources: list[dict[str, Any]]
    """Where each run was read: tool, file, sha256 and what else is known."""


class ClaimData(_Model):
    """A claim with its verdict."""

    claim: str
    """The claim in words."""
    relation: Literal["better", "worse", "not_worse", "equal", "at_most", "at_least"]
    """What is claimed of the candidate."""
    against: str
    """What it is claimed against: `baseline`, `chance`, or a number."""
    ratio: float
    """How many times the other's value is meant."""
    metric: str
    """The metric."""
    evaluation: str
    """The data entry or task; empty if it has no name."""
    verdict: Literal["supported", "refuted", "inconclusive", "incomparable", "failed"]
    """What the data says of the claim."""
    higher_is_better: bool
    """Which way is better."""
    candidate: float | None
    """The candidate's value."""
    baseline: float | None
    """The baseline's value, or the constant that is claimed."""
    difference: float | None
    """Candidate minus baseline."""
    low: float | None
    """The lower end of the difference's interval of the claim's confidence."""
    high: float | None
    """The upper end."""
    confidence: float
    """The claim's confidence."""
    margin: float | str
    """The claim's margin: a number, or a share such as 5%."""
    p: float | None
    """The level at which the interval reaches the claim's limit."""
    p_adjusted: float | None
    """p over all claims of the check (Holm)."""
    n: int
    """The number of examples; 0 if it is not known."""
    seeds: int
    """The number of training runs of the candidate."""
    detectable: float | None
    """How far beyond its limit the truth must be so that 80% of such checks show it."""
    needed: int | None
    """How many more examples would decide it, if they are known to do."""
    reason: str
    """What limits the verdict, or why there is none."""


class WorseData(_Model):
    """The examples whose score fell on one metric."""

    metric: str
    """The metric with its evaluation."""
    worse: int
    """How many fell."""
    better: int
    """How many rose."""
    of: int
    """How many there are."""
    examples: list[tuple[str, float, float]]
    """(id, baseline's score, candidate's score), the largest fall first; at most 200."""


class CheckData(_Model):
    """The result of `harness check`."""

    version: Literal[1] = 1
    """The version of this schema; it rises if a field changes its meaning or goes."""
    outcome: Literal["passed", "regressed", "inconclusive", "not judged"]
    """The outcome."""
    exit_code: int = Field(ge=0, le=4)
    """0 passed, 1 regressed, 3 inconclusive, 4 not judged."""
    headline: str
    """The outcome in one sentence."""
    error: str
    """Why nothing was judged; empty if something was."""
    candidate: SideData
    """The side that is judged."""
    baseline: SideData
    """The side that it is judged by."""
    allowed: list[str]
    """What does not keep the check from passing."""
    claims: list[ClaimData]
    """Each claim with its verdict."""
    worse: list[WorseData]
    """The examples that got worse, by metric."""
    notes: list[str]
    """What a reader must know."""


def data(checked: Checked) -> CheckData:
    """The check as plain data."""
    told = CheckData(
        outcome=checked.outcome,
        exit_code=checked.exit_code,
        headline=words.headline(checked),
        error=checked.error,
        candidate=_side(checked.candidate),
        baseline=_side(checked.baseline),
        allowed=sorted(checked.allow),
        claims=[_claim(verdict) for verdict in checked.verdicts],
        worse=[
            WorseData(metric=w.metric, worse=w.count, better=w.better, of=w.of,
                      examples=list(w.examples))
            for w in checked.worse
        ],
        notes=list(checked.notes),
    )  # fmt: skip
    return CheckData.model_validate(rewrite(told.model_dump(), well_formed))


def text(checked: Checked) -> str:
    """The check as JSON."""
    return data(checked).model_dump_json(indent=1) + "\n"


def read(content: str) -> Checked:
    """The check that `text` wrote.

    Raises:
        ValueError: it is no such JSON.
    """
    try:
        told = CheckData.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    checked = Checked(
        _read_side(told.candidate), _read_side(told.baseline),
        tuple(_read_claim(claim, told) for claim in told.claims),
        tuple(Worse(w.metric, w.worse, w.better, w.of, tuple(w.examples)) for w in told.worse),
        tuple(told.notes), frozenset(told.allowed), told.error,
    )  # fmt: skip
    if checked.outcome != told.outcome:
        raise ValueError(f"the outcome is {told.outcome}, and its claims say {checked.outcome}")
    return checked


def _read_side(told: SideData) -> Side:
    return Side(told.name, {seed: Run(told.variant, (), seed) for seed in told.seeds})


def _read_claim(told: ClaimData, check: CheckData) -> ClaimVerdict:
    claim = Claim(
        name=told.claim, metric=told.metric, variant=CANDIDATE, relation=told.relation,
        than=told.against, margin=told.margin, confidence=told.confidence, ratio=told.ratio,
    )  # fmt: skip
    against = check.baseline.variant if told.against == BASELINE else told.against
    gap = None
    if told.difference is not None:
        gap = Estimate(told.difference, told.low, told.high)
    return ClaimVerdict(
        claim, check.candidate.variant, against, told.metric, told.evaluation, told.verdict,
        told.candidate, told.baseline, gap, told.p, told.p_adjusted, told.n, 0, told.seeds, "",
        told.detectable, told.needed, told.reason, "", told.higher_is_better,
    )  # fmt: skip


def schema() -> str:
    """The JSON Schema of `text`, as docs/check.schema.json has it."""
    return json.dumps(CheckData.model_json_schema(), indent=1) + "\n"


def _side(side: Side) -> SideData:
    plain = [json.loads(json.dumps(dict(run.source), default=str)) for run in side.runs.values()]
    return SideData(
        name=side.name, variant=side.variant if side.runs else "", seeds=list(side.runs),
        sources=plain,
    )  # fmt: skip


def _claim(verdict: ClaimVerdict) -> ClaimData:
    gap = verdict.difference
    return ClaimData(
        claim=words.title(verdict), relation=verdict.claim.relation,
        against=BASELINE if verdict.claim.than == BASELINE else str(verdict.claim.than),
        ratio=verdict.claim.times, metric=verdict.metric, evaluation=verdict.evaluation,
        verdict=verdict.verdict, higher_is_better=verdict.higher_is_better,
        candidate=verdict.estimate, baseline=verdict.reference,
        difference=gap and gap.value, low=gap and gap.low, high=gap and gap.high,
        confidence=verdict.claim.confidence, margin=verdict.claim.margin, p=verdict.p,
        p_adjusted=verdict.p_adjusted, n=verdict.n, seeds=verdict.seeds,
        detectable=verdict.detectable, needed=verdict.needed, reason=verdict.reason,
    )  # fmt: skip


def worse_csv(checked: Checked) -> str:
    """The examples that got worse as CSV, whose cells no spreadsheet reads as formulas."""
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow(("metric", "example_id", "baseline", "candidate"))
    for worse in checked.worse:
        for identifier, before, after in worse.examples:
            cells = (csv_cell(visible(worse.metric)), csv_cell(visible(identifier)))
            writer.writerow((*cells, before, after))
    return target.getvalue()
