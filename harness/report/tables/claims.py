"""The verdicts on a suite's claims, for the beginning of each report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness.comparison.result import ClaimVerdict, Comparison, Noise, Outcome
from harness.core.text import label, line, number_of
from harness.report import numbers
from harness.report.tables.columns import COSTS
from harness.report.tables.sheets import Cell, Line, Sheet, figure

_ORDER: tuple[Outcome, ...] = ("refuted", "failed", "incomparable", "inconclusive", "supported")
"""Verdicts in the order in which they are counted: what asks for a decision comes first."""
_HOW = {
    "holm": "Holm's adjustment over all of them",
    "bh": "Benjamini and Hochberg's adjustment over all of them",
}


def sheet(comparison: Comparison) -> Sheet:
    """The table of claims: each verdict with its difference, p, power and what limits it."""
    equal = any(verdict.claim.relation == "equal" for verdict in comparison.claims)
    both = (
        "; of a claim of equality, it is how far inside both limits the truth must lie"
        if equal
        else ""
    )
    return Sheet(
        "claims",
        "Claims",
        ("claim", "verdict", "difference", "p (adjusted)", "smallest detectable", "examples",
         "what limits it"),
        tuple(Line(tuple(_cells(verdict))) for verdict in comparison.claims),
        f"{counted(comparison)} A claim is supported if its whole interval lies beyond the limit"
        " that it names, refuted if the whole interval lies short of it, after"
        f" {_HOW[comparison.correction]}. The smallest detectable difference, beyond the limit, is"
        f" what 80% of such experiments would have shown{both}.",
    )  # fmt: skip


def counted(comparison: Comparison) -> str:
    """How many claims have which verdict, as a sentence; empty if there are none."""
    counts = Counter(verdict.verdict for verdict in comparison.claims)
    parts = [f"{counts[word]} {word}" for word in _ORDER if counts[word]]
    if not parts:
        return ""
    total = sum(counts.values())
    return f"Of {total} claim{'s' if total > 1 else ''}: {', '.join(parts)}."


def sentence(verdict: ClaimVerdict) -> str:
    """A claim with the numbers behind its verdict: `claim: difference [interval]`."""
    figures = difference(verdict)
    return f"{line(verdict.title)}{f': {figures}' if figures else ''}"


def limits(verdict: ClaimVerdict) -> str:
    """What limits a verdict, with how many more examples would decide it."""
    more = verdict.needed
    needed = "" if more is None else (
        f"some {numbers.count(_rounded(more))} more examples would decide it, the difference"
        " staying as it is"
    )  # fmt: skip
    parts = (needed, spend(verdict.noise), line(verdict.reason))
    return "; ".join(part for part in parts if part)


_SPEND = {"examples": "more examples", "answers": "more answers to each", "seeds": "more seeds"}


def spend(noise: Noise | None) -> str:
    """Where the doubt comes from, and what to spend on next; empty if that is not known."""
    if noise is None:
        return ""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in noise.known.items())
    return f"its variance comes from {shares}: spend on {_SPEND[noise.largest]} next"


def difference(verdict: ClaimVerdict) -> str:
    """The difference with its interval, or both amounts of a cost; empty if there is none."""
    if verdict.difference is None:
        return ""
    if verdict.level == "cost":
        cost = next((c for c in COSTS if c.key == verdict.metric), None)
        one, other = (
            numbers.count(amount) if cost is None else cost.written(amount)
            for amount in (verdict.estimate, verdict.reference)
        )
        share = ""
        if verdict.estimate is not None and verdict.reference:
            share = f" ({numbers.share(verdict.estimate / verdict.reference)})"
        return f"{one} against {other}{share}"
    unit = f" {label(verdict.unit)}" if verdict.unit else ""
    sure = "" if verdict.claim.confidence == 0.95 else f" ({verdict.claim.confidence:.4g} sure)"
    return f"{numbers.both(verdict.difference, signed=True)}{unit}{sure}"


def _rounded(examples: int) -> int:
    """A number of examples with two digits, upwards: it is a guess."""
    step = int("1".ljust(len(str(examples)) - 1, "0"))
    return -(-examples // step) * step


def _cells(verdict: ClaimVerdict) -> Iterator[Cell]:
    source = f"source: {line(verdict.claim.source)}" if verdict.claim.source else ""
    yield Cell(line(verdict.title), below=source, name=True)
    yield Cell("", verdict=verdict.verdict)
    change = verdict.difference.value if verdict.difference else None
    yield figure(difference(verdict) or numbers.MISSING, change)
    yield figure(numbers.probability(verdict.p_adjusted), verdict.p_adjusted)
    places = numbers.decimals(verdict.difference) if verdict.difference else 3
    yield figure(numbers.number(verdict.detectable, places), verdict.detectable)
    if verdict.n:
        clusters = (
            f"in {number_of(verdict.clusters, 'cluster')}" if verdict.clusters != verdict.n else ""
        )
        yield Cell(f"{verdict.n:,}", below=clusters, sort=verdict.n)
    else:
        yield Cell(numbers.MISSING)
    yield Cell(limits(verdict), sentence=True)
