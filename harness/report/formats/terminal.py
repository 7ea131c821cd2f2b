"""The summary that is printed after a run: plain text in 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from harness.comparison.result import Comparison, Row, VariantResult
from harness.core.text import label, line
from harness.report import cheaper, numbers
from harness.report.answer import paragraphs
from harness.report.tables import claims
from harness.report.tables.columns import (
    STAR,
    STAR_NOTE,
    Column,
    columns,
    difference,
    main,
    main_costs,
    table,
    words,
)  # fmt: skip
from harness.report.tables.sheets import OVER, over_starts

WIDTH = 100
_NAME, _GAP, _METRICS = 30, "  ", 3

Lines = Sequence[tuple[str, Sequence[str]]]
"""The title and the cells of each column."""


def terminal_table(comparison: Comparison) -> str:
    """The answer, a line for each variant, and why variants failed; at most 100 columns wide."""
    parts = [*_claims(comparison), *map(_wrap, paragraphs(comparison))]
    metrics = columns(comparison)
    good = [variant for variant in comparison.variants if variant.has_result]
    if metrics and good:
        shown = _columns(comparison, main(comparison, _METRICS), good)
        parts.append(_blocks(shown))
        cells = [text for _, column in shown for text in column]
        if any(text.endswith((STAR, f"{STAR} {OVER}")) for text in cells):
            parts.append(_wrap(STAR_NOTE, "  "))
        if any(text.endswith(cheaper.UNLIKE) for text in cells):
            parts.append(_wrap(cheaper.UNLIKE_NOTE, "  "))
    if len(metrics) > _METRICS:
        rest = len(metrics) - _METRICS
        parts.append(f"{rest} more metric{'s stand' if rest > 1 else ' stands'} in the report.")
    parts += [_failure(variant) for variant in comparison.failed]
    parts += [_wrap(f"note: {line(note)}", "      ") for note in comparison.notes]
    # Plain hyphens and spaces, as people paste the numbers into shells and spreadsheets.
    return "\n\n".join(parts).replace(numbers.MINUS, "-").replace("\u00a0", " ")


def _claims(comparison: Comparison) -> list[str]:
    """The verdict on each claim, and what limits those that are not decided; one part at most."""
    if not comparison.claims:
        return []
    lines = [claims.counted(comparison)]
    width = max(len(verdict.verdict) for verdict in comparison.claims) + 2
    for verdict in comparison.claims:
        more = "" if verdict.verdict in ("supported", "refuted") else claims.limits(verdict)
        text = f"{claims.sentence(verdict)}{f' ({more})' if more else ''}"
        lines.append(_wrap(f"  {verdict.verdict:<{width}}{text}", " " * (width + 4)))
    return ["\n".join(lines)]


def _columns(
    comparison: Comparison, metrics: list[Column], good: list[VariantResult]
) -> list[tuple[str, list[str]]]:
    over = {key: row for key, (row, _) in over_starts(comparison).items()}
    rows = {**table(comparison), **over}
    headline = metrics[0]
    first = [rows.get((variant.group, *headline.key)) for variant in good]
    shown = [
        ("variant", [_short(line(variant.group)) for variant in good]),
        (_title(headline), [_estimate(row) for row in first]),
        (_against(comparison), [_change(row) for row in first]),
        ("verdict", [_verdict(row, over) for row in first]),
    ]
    marked = cheaper.not_comparable(comparison)
    for cost in main_costs(comparison):
        name = {"trainable_parameters": "trainable"}.get(cost.key, cost.name)
        shown.append((name, [cheaper.in_words(cost, variant, marked) for variant in good]))
    for column in metrics[1:]:
        metric_rows = [rows.get((variant.group, *column.key)) for variant in good]
        cells = [f"{_estimate(row)}  {_verdict(row, over)}" if row else numbers.MISSING
                 for row in metric_rows]  # fmt: skip
        shown.append((_title(column), cells))
    return shown


def _verdict(row: Row | None, over: Mapping[tuple[str, str, str], Row]) -> str:
    """A verdict, with what it is over where that is not the baseline."""
    if row is None:
        return numbers.MISSING
    key = row.group, row.metric, row.evaluation
    return f"{words(row)} {OVER}" if key in over else words(row)


def _against(comparison: Comparison) -> str:
    """The head of the column of differences. The baseline's name is shortened, unless variants have
    several baselines and the end of the name says which model it is."""
    one = all(comparison.against(v.group) == comparison.baseline for v in comparison.variants)
    return f"against {_short(line(comparison.baseline), 14 if one else _NAME)}"


def _title(column: Column) -> str:
    unit = f", {column.unit}" if column.unit else ""
    chance = "" if column.chance is None else f" (chance {column.chance:.2g})"
    return _short(f"{column.name} {column.arrow}{unit}", 26) + chance


def _estimate(row: Row | None) -> str:
    return numbers.MISSING if row is None else numbers.both(row.estimate)


def _change(row: Row | None) -> str:
    return _short(difference(row), _NAME) if row is not None else numbers.MISSING


def _short(text: str, width: int = _NAME) -> str:
    """The text shortened in the middle, as names differ at their ends."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[head + 1 - width :]}"


def _blocks(columns: Lines) -> str:
    """Columns side by side up to WIDTH; further ones below, with the first column repeated."""
    names = columns[0]
    blocks: list[list[tuple[str, Sequence[str]]]] = [[names]]
    for column in columns[1:]:
        if _total([*blocks[-1], column]) > WIDTH:
            blocks.append([names])
        blocks[-1].append(column)
    return "\n\n".join(_block(block) for block in blocks)


def _width(column: tuple[str, Sequence[str]]) -> int:
    return max(len(text) for text in (column[0], *column[1]))


def _total(block: Lines) -> int:
    return sum(_width(column) for column in block) + len(_GAP) * (len(block) - 1)


def _block(block: Lines) -> str:
    widths = [_width(column) for column in block]
    rows = [[title for title, _ in block], *zip(*(cells for _, cells in block), strict=True)]
    lines = [_GAP.join(f"{t:<{w}}" for t, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(text.rstrip() for text in lines)


def _failure(variant: VariantResult) -> str:
    reasons = "; ".join(line(reason) for reason in variant.reasons)
    part = " in part" if variant.has_result else ""
    return _wrap(f"FAILED{part} {label(variant.group)}: {reasons}", "  ")


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
