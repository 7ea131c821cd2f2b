"""Tables as data that each format writes in its own way, and the tables of results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from harness.comparison.result import Comparison, Row, VariantResult
from harness.comparison.unpaired import NOTE
from harness.core.text import label, line, number_of
from harness.report import cheaper, numbers
from harness.report.tables.columns import (
    STAR,
    STAR_NOTE,
    Column,
    Cost,
    columns,
    costs,
    difference,
    table,
)

OVER = "over its start"
"""Stands before the start that a preference is over."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        below: a smaller text, beside or under the main one.
        verdict: a key of columns.MARKS, or empty.
        change: the difference that the verdict is about, or why there is none.
        sort: the number that a column is sorted by; None if the text is no number.
        name: the text comes from the suite or the data, so that formats escape it.
        sentence: the text is a sentence, in which code stands in backticks.
    """

    text: str
    below: str = ""
    verdict: str = ""
    change: str = ""
    sort: float | None = None
    name: bool = False
    sentence: bool = False

    @property
    def between(self) -> str:
        """What stands between the verdict and the change: a reason is set off by a colon."""
        reason = self.change[:1].isalpha() and not self.change.startswith(OVER)
        return ": " if reason else " "


@dataclass(frozen=True)
class Line:
    """One row of a table.

    Attributes:
        reason: why the variant failed, in place of the cells that are missing.
        baseline: the row is a baseline's.
    """

    cells: tuple[Cell, ...]
    reason: str = ""
    baseline: bool = False
    groups: tuple[str, ...] = ()
    """The row's value on each of the table's axes."""


@dataclass(frozen=True)
class Sheet:
    """A table with its title and a note that explains it."""

    key: str
    title: str
    headers: tuple[str, ...]
    lines: tuple[Line, ...]
    note: str = ""
    axes: tuple[str, ...] = ()
    """The axes by which a reader can group the rows."""

    @cached_property
    def numerics(self) -> tuple[bool, ...]:
        """For each column, whether it holds plain numbers, which are aligned to the right."""
        return tuple(self._numeric(column) for column in range(len(self.headers)))

    def _numeric(self, column: int) -> bool:
        cells = [line_.cells[column] for line_ in self.lines if column < len(line_.cells)]
        return any(cell.sort is not None for cell in cells) and not any(c.verdict for c in cells)


def name_cell(text: object) -> Cell:
    """A cell with a name from the suite or the data."""
    return Cell(label(text), name=True)


def figure(text: str, amount: float | None) -> Cell:
    """A cell with a number."""
    return Cell(text, sort=_finite(amount))


def _finite(amount: float | None) -> float | None:
    return amount if amount is not None and math.isfinite(amount) else None


def results(comparison: Comparison) -> Sheet:
    """The table of results: variants by metrics and costs."""
    metrics, priced, rows = columns(comparison), costs(comparison), table(comparison)
    heads = [head(column) for column in metrics]
    lines, axes, marked = [], grouping(comparison), cheaper.not_comparable(comparison)
    starts = over_starts(comparison)
    for number, variant in enumerate(comparison.variants, 1):
        first = (figure(str(number), number), _named(variant))
        if variant.has_result:
            keys = [(variant.group, *column.key) for column in metrics]
            cells = [
                metric_cell(starts[key][0], f"{OVER} {starts[key][1]}")
                if key in starts
                else metric_cell(rows.get(key))
                for key in keys
            ]
            paid = [_paid(cost, variant, marked) for cost in priced]
            same = comparison.is_baseline(variant.group)
            lines.append(Line((*first, *cells, *paid), "", same, place(variant, axes)))
        if variant.status != "ok":
            reason = "; ".join(line(reason) for reason in variant.reasons) or "no reason is known"
            failure = f"in part: {reason}" if variant.has_result else reason
            lines.append(Line(first, reason=failure, groups=place(variant, axes)))
    means = "Costs are means over seeds, with the least and the most of them." if priced else ""
    notes = (
        means,
        _START_NOTE if starts else "",
        star_note(lines),
        cheaper.UNLIKE_NOTE if marked else "",
    )
    return Sheet(
        "results",
        "Results",
        ("#", "variant", *heads, *(cost.name for cost in priced)),
        tuple(lines),
        "Each figure with its 95% interval; verdicts and differences are against"
        f" {label(comparison.baseline)}{_on_the_same(comparison)}. ↑ higher is better, ↓ lower is"
        " better." + "".join(f" {note}" for note in notes if note),
        axes,
    )


def _on_the_same(comparison: Comparison) -> str:
    """Says that examples were paired, if any were."""
    told = [row for row in comparison.rows if row.difference is not None]
    unpaired = bool(told) and all(NOTE in row.note for row in told)
    return "" if unpaired else " on the same examples"


def _limits(row: Row) -> str:
    """What limits a row, as short as a cell: what unpaired means stands above the differences."""
    return line(row.note.replace(NOTE, "unpaired"))


def _paid(cost: Cost, variant: VariantResult, marked: cheaper.Marked) -> Cell:
    """A cost with its range over the seeds."""
    return Cell(
        cheaper.in_words(cost, variant, marked),
        below=cheaper.range_over_seeds(cost, variant),
        sort=_finite(cost.amount(variant)),
    )


def grouping(comparison: Comparison) -> tuple[str, ...]:
    """The axes on which the variants differ."""
    names = dict.fromkeys(name for variant in comparison.variants for name in variant.labels)
    return tuple(
        name
        for name in names
        if len({variant.labels.get(name) for variant in comparison.variants}) > 1
    )


def place(variant: VariantResult, axes: tuple[str, ...]) -> tuple[str, ...]:
    """A variant's value on each axis."""
    return tuple(label(variant.labels.get(axis, numbers.MISSING)) for axis in axes)


def head(column: Column) -> str:
    """A metric's name with its arrow, and its unit and chance level where it has them."""
    chance = "" if column.chance is None else f"chance {column.chance:.2g}"
    more = ", ".join(word for word in (column.unit, chance) if word)
    return f"{column.name}\u00a0{column.arrow}" + (f" ({more})" if more else "")


def _named(variant: VariantResult) -> Cell:
    count = len(variant.seeds)
    seeds = f"{count} seed{'s' if count > 1 else ''}" if variant.trained else "not trained"
    seeds = "trained elsewhere" if variant.elsewhere else seeds
    seeds = "imported" if variant.imported else seeds
    return Cell(label(variant.group), below=seeds, name=True)


_NO_CHANGE = ("no difference shown", "all alike")
"""Verdicts beside which a difference is not written: the table of differences has it."""


def metric_cell(row: Row | None, over: str = "") -> Cell:
    """A metric with its interval and its verdict against the baseline. A star tells of a difference
    that the adjustment undid, whose p values stand in the table of differences.

    Args:
        over: what the difference is over, in words, where that is not the baseline.
    """
    if row is None:
        return Cell(numbers.MISSING)
    shown = row.difference is not None and row.verdict not in _NO_CHANGE
    size = numbers.value(row.difference, signed=True) if row.difference and shown else ""
    said = " ".join(part for part in (size, over) if part)
    note = STAR if row.shown_alone else _limits(row)
    change = f"{said} ({note})" if said and note else said or note
    return Cell(
        numbers.value(row.estimate),
        below=numbers.interval(row.estimate) or "no interval",
        verdict=row.verdict,
        change=change,
        sort=_finite(row.estimate.value),
    )


_START_NOTE = (
    "A preference over the variant's own start is against one half, with the verdict of"
    " the table of what alignment cost."
)


def over_starts(comparison: Comparison) -> dict[tuple[str, str, str], tuple[Row, str]]:
    """(variant, metric, evaluation) -> the row of a preference over the variant's start, which has
    no difference from the baseline, with the name of that start. Its verdict is that of the table
    of what alignment cost."""
    rows, over = table(comparison), {}
    for tax in comparison.taxes:
        for row in (measured.row for measured in tax.measures if measured.kind == "preference"):
            key = row.group, row.metric, row.evaluation
            if key in rows and rows[key].difference is None:
                over[key] = row, label(tax.start)
    return over


def star_note(lines: Iterable[Line]) -> str:
    """What a star means, if a cell has one."""
    cells = [cell for row in lines for cell in row.cells]
    starred = any(
        STAR in (cell.change, cell.text) or cell.change.endswith(f"({STAR})") for cell in cells
    )
    return STAR_NOTE if starred else ""


def against(comparison: Comparison) -> Sheet:
    """The table of all differences from the baseline, with their tests and power."""
    rows, lines = table(comparison), []
    for column in columns(comparison):
        for variant in comparison.variants:
            row = rows.get((variant.group, *column.key))
            if row is not None and row.verdict != "baseline":
                lines.append(Line(tuple(_test(column, row))))
    return Sheet(
        "against",
        f"Differences from {label(comparison.baseline)}",
        ("metric", "variant", "difference", "verdict", "p (Holm)", "smallest detectable",
         "examples", "seeds", "about"),
        tuple(lines),
        f"{line(comparison.tests)} An interval excludes zero just where p by itself is below 0.05;"
        " a verdict needs the adjusted one to be. The smallest detectable difference is what 80%"
        " of such experiments would have seen.",
    )  # fmt: skip


def merged(comparison: Comparison) -> Sheet:
    """The table of how merging an adapter into the model changed each metric."""
    lines = [
        Line(tuple(_test(column, row)))
        for column in columns(comparison)
        for row in comparison.merged
        if (row.metric, row.evaluation) == column.key
    ]
    return Sheet(
        "merged",
        "Merged against unmerged",
        ("metric", "variant", "difference", "verdict", "p (Holm)", "smallest detectable",
         "examples", "seeds", "about"),
        tuple(lines),
        "The same checkpoints, the adapter merged into the model's whole weights in its dtype,"
        " minus the adapter beside the base it was trained on (of qlora, the 4-bit one).",
    )  # fmt: skip


def _test(column: Column, row: Row) -> Iterator[Cell]:
    yield Cell(head(column), name=True)
    yield name_cell(row.group)
    change = row.difference.value if row.difference else None
    yield figure(difference(row) or numbers.MISSING, change)
    yield Cell("", verdict=row.verdict, change=_limits(row) if row.difference else "")
    yield figure(numbers.probability(row.p_holm), row.p_holm)
    places = numbers.decimals(row.difference) if row.difference else 3
    yield figure(numbers.number(row.detectable, places), row.detectable)
    clusters = f"in {number_of(row.clusters, 'cluster')}" if row.clusters != row.n else ""
    yield Cell(f"{row.n:,}", below=clusters, sort=row.n)
    yield figure(str(row.seeds), row.seeds)
    yield Cell("the method" if row.level == "method" else "this checkpoint")
