"""The alignment tax: its table, and one sentence on which variants kept the language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.comparison.result import ALL, Comparison, Estimate, Measured, Row, Tax
from harness.core.text import label, line
from harness.report import numbers
from harness.report.tables.columns import judged_by
from harness.report.tables.sheets import (
    Cell,
    Line,
    Sheet,
    figure,
    metric_cell,
    name_cell,
    star_note,
)

TITLE = "What alignment cost"
_WORDS = {
    "reward": "the reward (scorer reward)",
    "preference": "the preference over the start (win_rate)",
    "from_start": "the divergence from the start (kl with to: start)",
    "from_base": "the divergence from the base (kl)",
    "language": "general text (perplexity on rows of text)",
    "answers": "the task families (such as rouge)",
    "diversity": "diversity (distinct, self_bleu)",
}
_CHANGES = ("language", "answers", "diversity")
"""Kinds that the table shows as differences from the start; of others it shows the value too."""
_NAMED = 4
"""How many variants the sentence names; the table has all of them."""


@dataclass(frozen=True)
class TaxColumn:
    """A column of the table: a measure on the rows of an evaluation, or on a group of them."""

    kind: str
    metric: str
    evaluation: str
    slice: str
    up: bool
    unit: str
    judged_by: str = ""

    @property
    def title(self) -> str:
        """The column's head."""
        name = f"{label(self.metric)}\u00a0{'↑' if self.up else '↓'}"
        unit = f" ({label(self.unit)})" if self.unit else ""
        where = f"{label(self.evaluation)}: {label(self.slice)}" if self.slice else ""
        if self.kind in ("answers", "diversity"):
            where = where or label(self.evaluation)
        change = "change in " if self.kind in _CHANGES else ""
        over = " over its start" if self.kind == "preference" else ""
        over += self.judged_by
        return f"{change}{name}{over}{unit}" + (f" · {where}" if where else "")


def columns(comparison: Comparison) -> list[TaxColumn]:
    """The measures that at least one aligned variant has, in the order of their kinds."""
    measures = [_column_of(m) for tax in comparison.taxes for m in tax.measures]
    order = list(_WORDS)
    return sorted(dict.fromkeys(measures), key=lambda column: order.index(column.kind))


def _column_of(measured: Measured) -> TaxColumn:
    row = measured.row
    return TaxColumn(
        measured.kind, row.metric, row.evaluation, row.slice, row.higher_is_better, row.unit,
        judged_by(row),
    )  # fmt: skip


def row_of(tax: Tax, column: TaxColumn) -> Row | None:
    """A variant's row in a column; None if it was not measured."""
    return next((m.row for m in tax.measures if _column_of(m) == column), None)


def sheet(comparison: Comparison) -> Sheet:
    """The table of aligned variants by what they gained and lost; empty if there are none."""
    tax_columns = columns(comparison)
    places = {variant.group: n for n, variant in enumerate(comparison.variants, 1)}
    lines = []
    for tax in comparison.taxes:
        number = places.get(tax.group)
        first = (
            figure(str(number or numbers.MISSING), number),
            name_cell(tax.group),
            name_cell(tax.start),
        )
        cells = tuple(_cell(column, row_of(tax, column)) for column in tax_columns)
        cells = () if tax.reason else cells or (Cell(numbers.MISSING, below="not measured"),)
        lines.append(Line((*first, *cells), line(tax.reason)))
    # If nothing was measured at all, the reasons still need a column.
    heads = tuple(column.title for column in tax_columns) or ("measures",)
    return Sheet(
        "tax",
        TITLE,
        ("#", "variant", "start", *heads),
        tuple(lines),
        f"{_note(comparison)} {star_note(lines)}".rstrip(),
    )


def _cell(column: TaxColumn, row: Row | None) -> Cell:
    if row is None:
        return Cell(numbers.MISSING, below="not measured")
    if column.kind not in _CHANGES:
        cell = metric_cell(row)
        if row.difference is None or column.kind == "preference":  # always from one half
            return cell
        return replace(cell, change=numbers.both(row.difference, signed=True))
    if row.difference is None:
        return Cell(numbers.MISSING, verdict=row.verdict, change=line(row.note))
    return Cell(
        numbers.value(row.difference, signed=True),
        below=numbers.interval(row.difference, signed=True) or "no interval",
        verdict=row.verdict,
        sort=row.difference.value,
    )


def _note(comparison: Comparison) -> str:
    kinds = {column.kind for column in columns(comparison)}
    missing = [words for kind, words in _WORDS.items() if kind not in kinds]
    said = (
        "Each variant against the checkpoint that its last stage went on from, on the same examples"
        " (a preference: against one half, which is no change); verdicts are adjusted over this"
        " table, whole sets and families apart. Divergences are 0 where nothing moved."
    )
    return f"{said} Not measured here: {', '.join(missing)}." if missing else said


def kept(comparison: Comparison) -> str:
    """One sentence: which aligned variants kept the language, and which lost most of it.

    It is empty if there are no aligned variants. It only reads differences and verdicts.
    """
    if not comparison.taxes:
        return ""
    measured = next((column for column in columns(comparison) if column.kind == "language"), None)
    pairs = [(tax, row_of(tax, measured)) for tax in comparison.taxes] if measured else []
    known = [(tax, row) for tax, row in pairs if row is not None and row.difference is not None]
    if measured is None or not known:
        return (
            "Whether the aligned variants kept the language is not known: no perplexity on general"
            " text was measured for them and their starts."
        )
    up = measured.up
    # The variant that lost least comes first, whichever direction is better.
    known.sort(key=lambda pair: _moved(pair[1]), reverse=up)
    held = [(tax, row) for tax, row in known if row.verdict != "worse"]
    lost = [(tax, row) for tax, row in known if row.verdict == "worse"]
    what = f"{label(measured.metric)} {'↑' if up else '↓'}, each against its start"
    open_ = [tax.group for tax, row in pairs if row is None or row.difference is None]
    unknown = f"; of {_names(open_)} it is not known" if open_ else ""
    if not held:
        return f"Every aligned variant measured lost language ({what}): {_ends(lost)}{unknown}."
    said = (
        f"Which kept the language? No loss ({what}) is shown for"
        f" {_names([tax.group for tax, _ in held])}{_gain(comparison, [tax for tax, _ in held])}"
    )
    some = ""
    if lost[1:]:
        most = _surely("lost most", lost[-1][1], [row for _, row in lost[:-1]])
        some = f"; of {len(lost)} that lost some, {_change(*lost[-1])} {most}"
    some = f"; {_change(*lost[0])} lost some" if len(lost) == 1 else some
    return f"{said}{some}{unknown}."


def _ends(lost: Sequence[tuple[Tax, Row]]) -> str:
    """The variants that lost least and most."""
    rows = [row for _, row in lost]
    if len(rows) == 1:
        return _change(*lost[0])
    least = _surely("least", rows[0], rows[1:])
    return (
        f"{_change(*lost[0])} {least}, {_change(*lost[-1])} {_surely('most', rows[-1], rows[:-1])}"
    )


def _surely(word: str, row: Row, others: Sequence[Row]) -> str:
    """A superlative; it says so if the interval overlaps with another one."""
    difference = row.difference or Estimate(0.0)
    apart = all(difference.meets(other.difference or Estimate(0.0)) is False for other in others)
    return word if apart else f"{word} (by the estimate; intervals overlap)"


def _moved(row: Row) -> float:
    return row.difference.value if row.difference is not None else 0.0


def _change(tax: Tax, row: Row) -> str:
    change = numbers.both(row.difference, signed=True) if row.difference else numbers.MISSING
    return f"{label(tax.group)} ({change})"


def _names(groups: Sequence[str]) -> str:
    return named([label(group) for group in groups])


def named(names: list[str]) -> str:
    """The names as a list in words; of many names, the first ones and the number of the others."""
    if len(names) > _NAMED:
        names = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _gain(comparison: Comparison, held: Sequence[Tax]) -> str:
    """Which variant gained most among those that lost nothing: learning nothing loses nothing."""
    column = gain(comparison)
    if column is None:
        return ""
    measured = ((tax, row_of(tax, column)) for tax in held)
    rows = [(tax, row) for tax, row in measured if row is not None and row.difference is not None]
    if not rows:
        return ""
    pick = max if column.up else min
    tax, row = pick(rows, key=lambda pair: _moved(pair[1]))
    what = f"{label(column.metric)} {'↑' if column.up else '↓'}"
    change = _change(tax, row)
    if row.verdict != "better":
        none = "none is shown to have" if len(rows) > 1 else "it is not shown to have"
        return f", and {none} gained in {what} (at best {change})"
    if len(rows) == 1:
        return f", and it gained in {what}: {change}"
    most = _surely("gained most", row, [other for _, other in rows if other is not row])
    return f", of which {change} {most} in {what}"


def gain(comparison: Comparison) -> TaxColumn | None:
    """The measure of what was gained: the reward if it has differences, else the preference."""
    return _first(comparison, ("reward", "preference"))


def loss(comparison: Comparison) -> TaxColumn | None:
    """The measure of what was lost: the likelihood of general text, else the answers' quality."""
    return _first(comparison, ("language", "answers"))


def _first(comparison: Comparison, kinds: Sequence[str]) -> TaxColumn | None:
    return next(iter(_differing(comparison, kinds)), None)


def _differing(comparison: Comparison, kinds: Sequence[str]) -> Iterator[TaxColumn]:
    """The measures over whole evaluations that have differences from the start, kind by kind."""
    for kind in kinds:
        for column in columns(comparison):
            rows = (row_of(tax, column) for tax in comparison.taxes)
            whole = column.kind == kind and column.slice == ALL
            if whole and any(row is not None and row.difference is not None for row in rows):
                yield column
