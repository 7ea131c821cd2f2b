"""Tables by task family and by seed, and what training on one family does to the others."""

from __future__ import annotations

from harness.comparison.result import Comparison, VariantResult
from harness.core.text import label
from harness.report import numbers
from harness.report.tables.columns import columns, slices, table
from harness.report.tables.sheets import (
    Cell,
    Line,
    Sheet,
    figure,
    grouping,
    head,
    metric_cell,
    name_cell,
    place,
    star_note,
)

_OWN = "trained on this"


def sliced(comparison: Comparison) -> list[Sheet]:
    """For each metric a table of variants by groups of test rows, if the rows have groups."""
    by_part = {part: table(comparison, part) for part in slices(comparison)}
    sheets = []
    for number, column in enumerate(columns(comparison)):
        counts = {
            part: row.n
            for part, rows in by_part.items()
            for row in rows.values()
            if (row.metric, row.evaluation) == column.key
        }
        if counts:
            lines = tuple(
                Line(
                    (
                        name_cell(variant.group),
                        *(metric_cell(by_part[part].get((variant.group, *column.key)))
                          for part in counts),
                    ),
                    baseline=comparison.is_baseline(variant.group),
                )
                for variant in _good(comparison)
                if any((variant.group, *column.key) in by_part[part] for part in counts)
            )  # fmt: skip
            heads = (f"{label(part)} (n\u00a0=\u00a0{n:,})" for part, n in counts.items())
            sheets.append(
                Sheet(
                    f"slices-{number}", head(column), ("variant", *heads), lines, star_note(lines)
                )
            )
    return sheets


def _good(comparison: Comparison) -> list[VariantResult]:
    return [variant for variant in comparison.variants if variant.has_result]


def transfer(comparison: Comparison) -> Sheet:
    """The headline metric by training rows and test rows; empty unless the suite varies both."""
    metrics, rows = columns(comparison), table(comparison)
    asked = [column for column in metrics if column.metric == metrics[0].metric]
    trained = [v for v in _good(comparison) if v.trained and v.labels.get("data")]
    if len(asked) < 2 or not trained:
        return Sheet("transfer", "Transfer", (), ())
    base = [v for v in _good(comparison) if comparison.is_baseline(v.group)]
    lines = []
    for variant in [*base, *(v for v in trained if v not in base)]:
        data = variant.labels.get("data", "") if variant.trained else ""
        cells = []
        for column in asked:
            its_own = variant.trained and variant.trained_on(column.evaluation)
            cell = metric_cell(rows.get((variant.group, *column.key)))
            below = f"{cell.below} · {_OWN}" if its_own else cell.below
            cells.append(Cell(cell.text, below, cell.verdict, cell.change, cell.sort, cell.name))
        trained_on = Cell(label(data) if data else "nothing", name=True)
        same = comparison.is_baseline(variant.group)
        lines.append(Line((name_cell(variant.group), trained_on, *cells), baseline=same))
    heads = (f"asked {label(column.evaluation)}" for column in asked)
    first = asked[0]
    way = "higher" if first.up else "lower"
    return Sheet(
        "transfer",
        f"Transfer: {label(first.metric)}",
        ("variant", "trained on", *heads),
        tuple(lines),
        f"Read across: what training on one set of rows does to the others ({way} is better)."
        f" Verdicts are against {label(comparison.baseline)}; where a variant is worse on rows it"
        f" was not trained on, that is what specialising costs. {star_note(lines)}".rstrip(),
    )


def seeds(comparison: Comparison) -> Sheet:
    """The metrics of every training run; empty if each variant has one seed."""
    metrics, rows = columns(comparison), table(comparison)
    several = [v for v in _good(comparison) if len(v.seeds) > 1 and v.trained]
    lines, axes = [], grouping(comparison)
    for variant in several:
        metric_rows = [rows.get((variant.group, *column.key)) for column in metrics]
        runs = [dict(row.by_seed) if row else {} for row in metric_rows]
        for seed in variant.seeds:
            cells = (
                figure(numbers.number(run.get(seed), numbers.decimals(row.estimate) if row else 3),
                       run.get(seed))
                for run, row in zip(runs, metric_rows, strict=True)
            )  # fmt: skip
            lines.append(
                Line(
                    (name_cell(variant.group), figure(str(seed), seed), *cells),
                    groups=("seed " + str(seed), *place(variant, axes)),
                )
            )
    return Sheet(
        "seeds",
        "Each seed",
        ("variant", "seed", *(head(column) for column in metrics)),
        tuple(lines),
        "The same variant trained again from another seed: how far these figures lie apart is what"
        " a single run cannot tell.",
        ("seed", *axes),
    )
