"""Tables of text that every format shows alike: the results, the differences, the slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.compare.result import Comparison, Row, VariantResult
from harness.report import numbers
from harness.report.columns import (
    Column, columns, costs, difference, slices, table,
)  # fmt: skip
from harness.report.safe import line


@dataclass(frozen=True)
class Cell:
    """One cell: text, what stands below it, and a verdict.

    Attributes:
        sort: the number behind the text, by which a column is ordered; None where it is a word.
        verdict: a key of columns.MARKS, or nothing.
        name: somebody else's word, kept apart from the text around it.
    """

    text: str
    below: str = ""
    verdict: str = ""
    change: str = ""
    sort: float | None = None
    name: bool = False


@dataclass(frozen=True)
class Line:
    """A row. Where `reason` is given it stands in place of the cells that are missing."""

    cells: tuple[Cell, ...]
    reason: str = ""
    baseline: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table with its title and what a reader must know to read it."""

    key: str
    title: str
    headers: tuple[str, ...]
    lines: tuple[Line, ...]
    note: str = ""


def name_cell(text: object) -> Cell:
    """A name from the suite or the data."""
    return Cell(line(text), name=True)


def figure(text: str, amount: float | None) -> Cell:
    """A number with what it is sorted by."""
    return Cell(text, sort=amount if amount is not None and amount == amount else None)


def results(comparison: Comparison) -> Sheet:
    """Variants by metrics and costs."""
    found, priced, rows = columns(comparison), costs(comparison), table(comparison)
    heads = [_head(column) for column in found]
    lines = []
    for number, variant in enumerate(comparison.variants, 1):
        first = (figure(str(number), number), _named(variant))
        if variant.status != "ok":
            reason = "; ".join(line(reason) for reason in variant.reasons)
            lines.append(Line(first, reason=reason or "no reason is known"))
            continue
        own = [metric_cell(rows.get((variant.group, *column.key))) for column in found]
        paid = [figure(cost.text(variant), _amount(variant, cost.key)) for cost in priced]
        same = variant.group == comparison.baseline
        lines.append(Line((*first, *own, *paid), baseline=same))
    return Sheet(
        "results",
        "Results",
        ("#", "variant", *heads, *(cost.name for cost in priced)),
        tuple(lines),
        f"Mean with its 95% interval; the verdict and the difference are against"
        f" {line(comparison.baseline)} on the same examples. ↑ higher is better, ↓ lower is better."
        " Costs are means over seeds.",
    )


def _head(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.name} {column.arrow}{unit}"


def _named(variant: VariantResult) -> Cell:
    count = len(variant.seeds)
    seeds = f"{count} seed{'s' if count > 1 else ''}" if variant.trained else "not trained"
    return Cell(line(variant.group), below=seeds, name=True)


def _amount(variant: VariantResult, key: str) -> float | None:
    # Not trained costs nothing; that sorts before the cheapest training.
    return variant.cost.get(key) if variant.trained else (variant.cost.get(key) or 0.0)


def metric_cell(row: Row | None) -> Cell:
    """An estimate with its interval and, against the baseline, its verdict."""
    if row is None:
        return Cell(numbers.MISSING)
    change = numbers.value(row.difference, signed=True) if row.difference else line(row.note)
    return Cell(
        numbers.value(row.estimate),
        below=numbers.interval(row.estimate) or "no interval",
        verdict=row.verdict,
        change=change,
        sort=row.estimate.value if row.estimate.value == row.estimate.value else None,
    )


def against(comparison: Comparison) -> Sheet:
    """Every difference from the baseline with its test and its power."""
    rows, lines = table(comparison), []
    for column in columns(comparison):
        for variant in comparison.variants:
            row = rows.get((variant.group, *column.key))
            if row is not None and row.verdict != "baseline":
                lines.append(Line(tuple(_test(column, row))))
    return Sheet(
        "against",
        f"Differences from {line(comparison.baseline)}",
        ("metric", "variant", "difference", "verdict", "p (Holm)", "smallest detectable",
         "examples", "seeds", "about"),
        tuple(lines),
        "Paired on the same examples. A verdict needs the interval to exclude zero and the adjusted"
        " p below 0.05. The smallest detectable difference is what 80% of such experiments would"
        " have seen.",
    )  # fmt: skip


def _test(column: Column, row: Row) -> Iterator[Cell]:
    yield Cell(_head(column), name=True)
    yield name_cell(row.group)
    change = row.difference.value if row.difference else None
    yield figure(difference(row) or numbers.MISSING, change)
    yield Cell("", verdict=row.verdict)
    yield figure(numbers.probability(row.p_holm), row.p_holm)
    places = numbers.decimals(row.difference) if row.difference else 3
    yield figure(numbers.number(row.detectable, places), row.detectable)
    clusters = f"in {row.clusters:,} clusters" if row.clusters != row.n else ""
    yield Cell(f"{row.n:,}", below=clusters, sort=row.n)
    yield figure(str(row.seeds), row.seeds)
    yield Cell("the method" if row.level == "method" else "this checkpoint")


def sliced(comparison: Comparison) -> list[Sheet]:
    """For each metric, groups of test rows by variant; none where the rows have no groups."""
    parts = slices(comparison)
    by_part = {part: table(comparison, part) for part in parts}
    good = [variant for variant in comparison.variants if variant.status == "ok"]
    sheets = []
    for number, column in enumerate(columns(comparison)):
        lines = []
        for part in parts:
            own = [by_part[part].get((variant.group, *column.key)) for variant in good]
            if any(own):
                examples = next(row.n for row in own if row)
                cells = (metric_cell(row) for row in own)
                lines.append(Line((name_cell(part), figure(f"{examples:,}", examples), *cells)))
        if lines:
            heads = ("task family", "examples", *(line(variant.group) for variant in good))
            sheets.append(Sheet(f"slices-{number}", _head(column), heads, tuple(lines)))
    return sheets
