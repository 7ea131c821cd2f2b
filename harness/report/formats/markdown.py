"""The report as Markdown, for people who read it as plain text and for any renderer."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from unicodedata import category

from harness.comparison.result import Comparison
from harness.core.text import Markdown, fenced, line, markdown, prose
from harness.report.answer import paragraphs
from harness.report.tables import alignment as tax
from harness.report.tables import claims
from harness.report.tables.brief import METRICS, brief
from harness.report.tables.columns import MARKS, columns
from harness.report.tables.families import seeds, sliced, transfer
from harness.report.tables.provenance import evidence, provenance
from harness.report.tables.sheets import Cell, Line, Sheet, against, results

_PLACES = (
    "This is the complete report: every table, the doubt behind each figure, and how to make it"
    " again. The answer, the claims and the main metrics on one page are in"
    " [summary.md](summary.md); the plots are in [index.html](index.html)."
)
_LINES = 20
"""How many variants the short form shows unfolded."""


def summary(comparison: Comparison) -> str:
    """The short form for a pull request or a chat: the answer, the results, and failures."""
    sheet = brief(comparison)
    shown = replace(sheet, lines=sheet.lines[:_LINES])
    folded = replace(sheet, lines=sheet.lines[_LINES:])
    count = len(folded.lines)
    more = f"<details><summary>{count} more</summary>\n\n{_table(folded)}\n\n</details>"
    left = len(columns(comparison)) - METRICS
    first, *rest = map(prose, paragraphs(comparison))
    parts = (
        _claims(comparison),
        f"**{markdown(comparison.suite)}**: {first}",
        *rest,
        _table(shown) if shown.lines else "",
        more if folded.lines else "",
        prose(sheet.note),
        f"{left} more {'metrics stand' if left > 1 else 'metric stands'} in report.md."
        if left > 0
        else "",
        "\n".join(f"- {prose(note)}" for note in comparison.notes),
        fenced(line(comparison.command), "sh"),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _claims(comparison: Comparison) -> str:
    """A line for each claim; what limits it where it is not decided."""
    if not comparison.claims:
        return ""
    lines = [f"**{markdown(claims.counted(comparison))}**", ""]
    for verdict in comparison.claims:
        more = "" if verdict.verdict in ("supported", "refuted") else claims.limits(verdict)
        said = f"{claims.sentence(verdict)}{f' ({more})' if more else ''}"
        lines.append(f"- {MARKS[verdict.verdict]} {verdict.verdict}: {prose(said)}")
    return "\n".join(lines)


def report(comparison: Comparison) -> str:
    """The complete report, with a table of contents under its first paragraphs."""
    parts = [part for part in _parts(comparison) if part]
    contents = " · ".join(f"[{head}](#{anchor})" for head, anchor in _sections(parts))
    place = parts.index(_PLACES) + 1
    return "\n\n".join([*parts[:place], f"Contents: {contents}", *parts[place:]]) + "\n"


def _sections(parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The heading of each section with its anchor; GitHub numbers the later ones of one name."""
    seen = Counter[str]()
    for part in parts:
        level, _, head = part.partition("\n")[0].partition(" ")
        if level.strip("#"):
            continue
        anchor = _anchor(head)
        if level == "##":
            yield head, f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor
        seen[anchor] += 1


def _anchor(head: str) -> str:
    """The anchor that GitHub gives a heading: small letters, hyphens for spaces, and of other signs
    only hyphens and those that words have."""
    kept = (c for c in html.unescape(head).lower() if c in " -" or category(c)[:1] in "LM"
            or category(c) in ("Nd", "Pc"))  # fmt: skip
    return "".join(kept).replace(" ", "-")


def _parts(comparison: Comparison) -> Iterator[str]:
    yield f"# {markdown(comparison.suite)}"
    yield markdown(comparison.description)
    yield Markdown(_PLACES)
    yield _section(claims.sheet(comparison))
    first, *rest = map(prose, paragraphs(comparison))
    yield f"**{first}**"
    yield from rest
    yield _section(results(comparison))
    if comparison.failed:
        yield "## Failed cells"
        yield "\n".join(
            f"- **{markdown(variant.group)}**: {prose('; '.join(variant.reasons))}"
            for variant in comparison.failed
        )
    yield _section(against(comparison))
    yield _section(tax.sheet(comparison))
    yield _section(transfer(comparison))
    yield _section(seeds(comparison))
    parts = sliced(comparison)
    if parts:
        yield "## By task family"
        for sheet in parts:
            yield _section(sheet, "###")
    if comparison.notes:
        yield "## What to know"
        yield "\n".join(f"- {prose(note)}" for note in comparison.notes)
    for sheet in evidence(comparison):
        yield _section(sheet)
    yield "## To make this again"
    yield fenced(line(comparison.command), "sh")
    for sheet in provenance(comparison):
        yield _section(sheet, "###")
    if comparison.suite_text:
        yield "### Suite"
        yield fenced(comparison.suite_text, "yaml")


def _section(sheet: Sheet, level: str = "##") -> str:
    if not sheet.lines:
        return ""
    parts: list[str] = [f"{level} {markdown(sheet.title)}", prose(sheet.note), _table(sheet)]
    return "\n\n".join(part for part in parts if part)


def _table(sheet: Sheet) -> str:
    rules = ["---:" if sheet.numerics[i] else "---" for i in range(len(sheet.headers))]
    rows: list[list[str]] = [[markdown(head) for head in sheet.headers], rules]
    rows += [_row(row_line, len(sheet.headers)) for row_line in sheet.lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(row_line: Line, width: int) -> list[str]:
    cells: list[str] = [_cell(cell) for cell in row_line.cells]
    if row_line.reason:
        cells.append(Markdown(f"{MARKS['failed']} failed: {prose(row_line.reason)}"))
    return [*cells, *[""] * (width - len(cells))]


def _cell(cell: Cell) -> str:
    # The brackets of intervals need no escape, as no parenthesis follows them.
    text = markdown(cell.text) if cell.name else prose(cell.text) if cell.sentence else cell.text
    parts: list[str] = [text, cell.below]
    if cell.verdict:
        change = f"{cell.between}{prose(cell.change)}" if cell.change else ""
        parts.append(f"{MARKS[cell.verdict]} {cell.verdict}{change}")
    return " ".join(part for part in parts if part)
