"""The results in at most ten columns with the verdict first, for a pull request or a chat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.comparison.result import Comparison, Row, VariantResult
from harness.core.text import label, line
from harness.report import cheaper, numbers
from harness.report.tables.columns import (
    STAR,
    Column,
    difference,
    main,
    main_costs,
    table,
)
from harness.report.tables.sheets import (
    OVER,
    Cell,
    Line,
    Sheet,
    figure,
    head,
    metric_cell,
    name_cell,
    over_starts,
    star_note,
)

METRICS = 4
"""How many metrics it shows: the headline metric, those of forgetting, then others."""


def brief(comparison: Comparison) -> Sheet:
    """One line for each variant: its verdict, its metrics and its costs."""
    metrics = main(comparison, METRICS)
    if not metrics:
        return Sheet("brief", "Results", (), ())
    marked = cheaper.not_comparable(comparison)
    lines = [row for v in comparison.variants for row in _lines(comparison, v, metrics, marked)]
    base = f"against {label(comparison.baseline)}"
    heads = ("verdict", head(metrics[0]), base, *map(head, metrics[1:]))
    notes = (star_note(lines), cheaper.UNLIKE_NOTE if marked else "")
    return Sheet(
        "brief",
        "Results",
        ("variant", *heads, *(cost.name for cost in main_costs(comparison))),
        tuple(lines),
        " ".join(note for note in notes if note),
    )


def _lines(
    comparison: Comparison, variant: VariantResult, metrics: list[Column], marked: cheaper.Marked
) -> Iterator[Line]:
    name, keys = name_cell(variant.group), [(variant.group, *column.key) for column in metrics]
    rows, over = table(comparison), {k: row for k, (row, _) in over_starts(comparison).items()}
    metric_rows = [over.get(key, rows.get(key)) for key in keys]
    of_start = [key in over for key in keys]
    if variant.has_result:
        paid = (Cell(cheaper.in_words(c, variant, marked)) for c in main_costs(comparison))
        yield Line((name, *_headline(metric_rows[0], of_start[0]),
                    *map(_other, metric_rows[1:], of_start[1:]), *paid))  # fmt: skip
    if variant.status != "ok":
        reason = "; ".join(line(reason) for reason in variant.reasons) or "no reason is known"
        yield Line((name,), reason=f"in part: {reason}" if variant.has_result else reason)


def _headline(row: Row | None, of_start: bool) -> Iterator[Cell]:
    if row is None:
        yield from (Cell(numbers.MISSING),) * 3
        return
    yield Cell("", verdict=row.verdict, change=_star(row, of_start))
    yield figure(numbers.both(row.estimate), row.estimate.value)
    change = row.difference.value if row.difference else None
    yield figure(difference(row) or numbers.MISSING, change)


def _other(row: Row | None, of_start: bool) -> Cell:
    cell = metric_cell(row)
    return cell if row is None else replace(cell, below="", change=_star(row, of_start))


def _star(row: Row, of_start: bool) -> str:
    star = STAR if row.shown_alone else ""
    over = OVER if of_start else ""
    return f"{over} ({star})" if over and star else over or star
