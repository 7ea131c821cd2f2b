"""What alignment cost: its table, and in one sentence which variants kept the language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.comparison.result import ALL, Comparison, Estimate, Measured, Row, Tax
from harness.core.text import label, line
from harness.report import numbers
from harness.report.tables.sheets import Cell, Line, Sheet, figure, metric_cell, name_cell

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
"""Told as differences from the start; the others as they are, with the difference beside."""
_NAMED = 4
"""Variants named in the sentence; the table has them all."""


@dataclass(frozen=True)
class Told:
    """A column of the table: a measure, on rows, or on a group of them."""

    kind: str
    metric: str
    evaluation: str
    slice: str
    up: bool
    unit: str

    @property
    def title(self) -> str:
        """What stands at its head."""
        name = f"{label(self.metric)}\u00a0{'↑' if self.up else '↓'}"
        unit = f" ({label(self.unit)})" if self.unit else ""
        where = f"{label(self.evaluation)}: {label(self.slice)}" if self.slice else ""
        if self.kind in ("answers", "diversity"):
            where = where or label(self.evaluation)
        change = "change in " if self.kind in _CHANGES else ""
        over = " over its start" if self.kind == "preference" else ""
        return f"{change}{name}{over}{unit}" + (f" · {where}" if where else "")


def columns(comparison: Comparison) -> list[Told]:
    """Every measure that some aligned variant has, kinds in their order."""
    found = [_told(m) for tax in comparison.taxes for m in tax.measures]
    order = list(_WORDS)
    return sorted(dict.fromkeys(found), key=lambda told: order.index(told.kind))


def _told(found: Measured) -> Told:
    row = found.row
    return Told(
        found.kind, row.metric, row.evaluation, row.slice, row.higher_is_better, row.unit
    )  # fmt: skip


def row_of(tax: Tax, told: Told) -> Row | None:
    """A variant's row in a column; None where it was not measured."""
    return next((m.row for m in tax.measures if _told(m) == told), None)


def sheet(comparison: Comparison) -> Sheet:
    """Aligned variants by what they gained and lost; empty where nothing is aligned."""
    found = columns(comparison)
    places = {variant.group: n for n, variant in enumerate(comparison.variants, 1)}
    lines = []
    for tax in comparison.taxes:
        number = places.get(tax.group)
        first = (
            figure(str(number or numbers.MISSING), number),
            name_cell(tax.group),
            name_cell(tax.start),
        )
        told = tuple(_cell(column, row_of(tax, column)) for column in found)
        cells = () if tax.reason else told or (Cell(numbers.MISSING, below="not measured"),)
        lines.append(Line((*first, *cells), line(tax.reason)))
    # A reason needs a cell of its own where nothing was measured at all.
    heads = tuple(told.title for told in found) or ("measures",)
    return Sheet("tax", TITLE, ("#", "variant", "start", *heads), tuple(lines), _note(comparison))


def _cell(told: Told, row: Row | None) -> Cell:
    if row is None:
        return Cell(numbers.MISSING, below="not measured")
    if told.kind not in _CHANGES:
        cell = metric_cell(row)
        if row.difference is None or told.kind == "preference":  # one half is known to everybody
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
    kinds = {told.kind for told in columns(comparison)}
    missing = [words for kind, words in _WORDS.items() if kind not in kinds]
    said = (
        "Each variant against the checkpoint that its last stage went on from, on the same examples"
        " (a preference: against one half, which is no change); verdicts are adjusted over this"
        " table, whole sets and families apart. Divergences are 0 where nothing moved."
    )
    return f"{said} Not measured here: {', '.join(missing)}." if missing else said


def kept(comparison: Comparison) -> str:
    """Which aligned variants kept the language, and which lost most; nothing without any.

    It reads differences and verdicts; it computes none.
    """
    if not comparison.taxes:
        return ""
    measured = next((told for told in columns(comparison) if told.kind == "language"), None)
    pairs = [(tax, row_of(tax, measured)) for tax in comparison.taxes] if measured else []
    known = [(tax, row) for tax, row in pairs if row is not None and row.difference is not None]
    if measured is None or not known:
        return (
            "Whether the aligned variants kept the language is not known: no perplexity on general"
            " text was measured for them and their starts."
        )
    up = measured.up
    # The least lost first, whichever way is better.
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
    """Who lost least and most, the least first."""
    rows = [row for _, row in lost]
    if len(rows) == 1:
        return _change(*lost[0])
    least = _surely("least", rows[0], rows[1:])
    return (
        f"{_change(*lost[0])} {least}, {_change(*lost[-1])} {_surely('most', rows[-1], rows[:-1])}"
    )


def _surely(word: str, row: Row, others: Sequence[Row]) -> str:
    """A superlative, with its doubt where the interval meets that of another."""
    own = row.difference or Estimate(0.0)
    apart = all(own.meets(other.difference or Estimate(0.0)) is False for other in others)
    return word if apart else f"{word} (by the estimate; intervals overlap)"


def _moved(row: Row) -> float:
    return row.difference.value if row.difference is not None else 0.0


def _change(tax: Tax, row: Row) -> str:
    change = numbers.both(row.difference, signed=True) if row.difference else numbers.MISSING
    return f"{label(tax.group)} ({change})"


def _names(groups: Sequence[str]) -> str:
    return named([label(group) for group in groups])


def named(names: list[str]) -> str:
    """The names as people list them; of many the first and how many more there are."""
    if len(names) > _NAMED:
        names = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _gain(comparison: Comparison, held: Sequence[Tax]) -> str:
    """Which of those gained most: to keep everything by learning nothing is no feat."""
    told = gain(comparison)
    rows = [(tax, row) for tax in held if told and (row := row_of(tax, told)) and row.difference]
    if told is None or not rows:
        return ""
    pick = max if told.up else min
    tax, row = pick(rows, key=lambda pair: _moved(pair[1]))
    what = f"{label(told.metric)} {'↑' if told.up else '↓'}"
    change = _change(tax, row)
    if row.verdict != "better":
        none = "none is shown to have" if len(rows) > 1 else "it is not shown to have"
        return f", and {none} gained in {what} (at best {change})"
    if len(rows) == 1:
        return f", and it gained in {what}: {change}"
    most = _surely("gained most", row, [other for _, other in rows if other is not row])
    return f", of which {change} {most} in {what}"


def gain(comparison: Comparison) -> Told | None:
    """What was gained: the reward where it was measured against the start, else the preference."""
    return _first(comparison, ("reward", "preference"))


def loss(comparison: Comparison) -> Told | None:
    """What was lost: the likelihood of general text, else the answers' quality."""
    return _first(comparison, ("language", "answers"))


def _first(comparison: Comparison, kinds: Sequence[str]) -> Told | None:
    return next(iter(_differing(comparison, kinds)), None)


def _differing(comparison: Comparison, kinds: Sequence[str]) -> Iterator[Told]:
    for kind in kinds:
        for told in columns(comparison):
            rows = (row_of(tax, told) for tax in comparison.taxes)
            whole = told.kind == kind and told.slice == ALL
            if whole and any(row is not None and row.difference is not None for row in rows):
                yield told
