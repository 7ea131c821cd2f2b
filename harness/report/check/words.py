"""The words of a check: its outcome, its claims and their numbers, the same in every format."""

from __future__ import annotations

from collections.abc import Sequence

from harness.comparison.claims import ClaimVerdict
from harness.comparison.gate import CANDIDATE, Checked
from harness.comparison.result import Estimate
from harness.core.text import label, line, number_of
from harness.report import numbers
from harness.report.tables.claims import spend
from harness.report.tables.columns import COSTS, Cost
from harness.suite.claims import BASELINE

MARKS = {"passed": "✅", "regressed": "❌", "inconclusive": "❔", "not judged": "⚠️"}
OUTCOMES = {"supported": "passed", "refuted": "REGRESSED", "inconclusive": "inconclusive",
            "incomparable": "not judged", "failed": "not judged"}  # fmt: skip
_ORDER = ("refuted", "incomparable", "failed", "inconclusive", "supported")
"""What a person must see first."""


def ordered(verdicts: Sequence[ClaimVerdict]) -> list[ClaimVerdict]:
    """The verdicts with those first that need a person."""
    return sorted(verdicts, key=lambda verdict: _ORDER.index(verdict.verdict))


def headline(checked: Checked) -> str:
    """The outcome in one sentence."""
    if checked.error:
        return f"NOT JUDGED: {line(checked.error)}"
    counts = {name: 0 for name in _ORDER}
    for verdict in checked.verdicts:
        counts[verdict.verdict] += 1
    parts = [
        f"{counts['supported']} of"
        f" {number_of(len(checked.verdicts), 'claim holds', 'claims hold')}",
        f"{counts['refuted']} refuted" if counts["refuted"] else "",
        f"{counts['inconclusive']} inconclusive" if counts["inconclusive"] else "",
        f"{n} not judged" if (n := counts["incomparable"] + counts["failed"]) else "",
    ]
    if not checked.verdicts:
        parts = ["the two sides share no metric"]
    allowed = ""
    if checked.outcome == "passed" and counts["inconclusive"]:
        allowed = " (inconclusive ones are allowed)"
    sides = f"{label(checked.candidate.name)} against {label(checked.baseline.name)}"
    told = ", ".join(part for part in parts if part)
    return f"{checked.outcome.upper()}: {sides}: {told}{allowed}"


def metric(verdict: ClaimVerdict) -> str:
    """The metric's name, with an arrow that shows which way is better."""
    name = f"{verdict.metric}/{verdict.evaluation}" if verdict.evaluation else verdict.metric
    return f"{label(name)} {'↑' if verdict.higher_is_better else '↓'}"


def _cost(verdict: ClaimVerdict) -> Cost | None:
    """How a cost is written, if a verdict is about one."""
    if verdict.evaluation or verdict.n:
        return None
    return next((cost for cost in COSTS if cost.key == verdict.metric), None)


def value(number: float | None, verdict: ClaimVerdict) -> str:
    """One side's value with the digits that the difference justifies; a cost with its unit."""
    if number is not None and (cost := _cost(verdict)) is not None:
        return cost.written(number)
    places = numbers.decimals(verdict.difference or Estimate(number or 0.0))
    return numbers.number(number, places)


def difference(verdict: ClaimVerdict) -> str:
    """The difference with its interval."""
    if verdict.difference is None:
        return numbers.MISSING
    if _cost(verdict) is not None:
        if verdict.estimate is None or not verdict.reference:
            return numbers.MISSING
        return numbers.share(verdict.estimate / verdict.reference)
    told = numbers.value(verdict.difference, signed=True)
    interval = numbers.interval(verdict.difference, signed=True)
    return f"{told} {interval}" if interval else told


def limit(verdict: ClaimVerdict) -> str:
    """What is claimed, as short as a cell: `≥ -0.02` for not worse by more than 0.02."""
    claim, up = verdict.claim, verdict.higher_is_better
    if claim.bound:
        times = "" if claim.times == 1 else f"{claim.times:.4g} times "
        return f"{'≤' if claim.relation == 'at_most' else '≥'} {times}{verdict.against}"
    size = f"{claim.margin}" if claim.relative else f"{claim.margin_size:.4g}"
    if claim.relation == "equal":
        return f"within ±{size}"
    if claim.relation == "not_worse":
        return f"≥ {numbers.MINUS}{size}" if up else f"≤ +{size}"
    better = claim.relation == "better"
    return f"> +{size}" if better is up else f"< {numbers.MINUS}{size}"


def title(verdict: ClaimVerdict) -> str:
    """The claim in words, with its margin."""
    claim = verdict.claim
    against = BASELINE if claim.than == BASELINE else verdict.against
    named = claim.model_copy(update={"metric": metric(verdict)[:-2]})
    return claim.name or named.sentence(CANDIDATE, against)


def _fell(verdict: ClaimVerdict) -> bool:
    """Whether the interval shows a fall, of whatever size."""
    gap = verdict.difference
    if gap is None or gap.low is None or gap.high is None:
        return False
    return gap.high < 0 if verdict.higher_is_better else gap.low > 0


def reason(verdict: ClaimVerdict) -> str:
    """Why it is no plain verdict, and what would decide it."""
    parts = [line(verdict.reason)] if verdict.reason else []
    if verdict.verdict == "inconclusive":
        if _fell(verdict):
            parts.append("it fell, but perhaps by less than the margin")
        if verdict.needed is not None:
            parts.append(f"about {verdict.needed:,} more examples would decide it")
        elif verdict.detectable is not None:
            seen = numbers.number(
                verdict.detectable, numbers.decimals(Estimate(verdict.detectable))
            )
            parts.append(
                f"the smallest change that {number_of(verdict.n, 'example')} show is {seen}"
            )
        if said := spend(verdict.noise):
            parts.append(said)
    return "; ".join(parts)
