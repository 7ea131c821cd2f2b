"""The alignment tax: compares each aligned variant with the checkpoint that it started from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.comparison.result import ALL, MAIN, Measured, Row, Tax, VariantResult
from harness.comparison.rows import against_constant, rows_of
from harness.comparison.scores import Column, Reader, Scores, columns_of, rows_key
from harness.comparison.verdicts import adjusted
from harness.planning.planner import Scored, VariantPath
from harness.store.stage import Record

KINDS = (
    "reward", "preference", "from_start", "from_base", "language", "answers", "diversity",
)  # fmt: skip
"""The kinds of measures of an aligned variant, in the order of the table: the mean reward; how
often its answers are preferred to its start's; its distance from its start and from the base model;
how likely general text is to it; how good its answers are, by family; how much its answers vary."""
_EVEN = 0.5
"""The share of preferences where neither side is better."""
_OF_ITS_ROWS = ("reward", "preference", "diversity")
"""Kinds measured on the prompts that the variant was aligned on, if the suite evaluates these."""

Seeds = Mapping[int, Mapping[Column, Scores]]


def taxes(
    groups: Mapping[str, Sequence[VariantPath]],
    variants: Sequence[VariantResult],
    records: Mapping[str, Record],
    read: Reader,
) -> list[Tax]:
    """The tax of each variant whose last training started from another training's checkpoint.

    Holm's adjustment counts all their differences as one family, apart from the report's rows.

    Args:
        groups: each variant's paths, as far as they have results.
        read: reads the scores of a path.
    """
    collected: list[tuple[Tax, list[str], list[Row]]] = []
    for variant in variants:
        paths = groups[variant.group]
        start = paths[0].start
        if start is None:
            continue
        tax = Tax(variant.group, start.variant.group)
        if not variant.has_result:
            collected.append((replace(tax, reason="; ".join(variant.reasons)), [], []))
        else:
            measured = list(_measured(tax, paths, records, read))
            collected.append((tax, [kind for kind, _ in measured], [row for _, row in measured]))
    rows = iter(adjusted([row for _, _, variant_rows in collected for row in variant_rows]))
    return [
        replace(tax, measures=tuple(Measured(kind, next(rows)) for kind in kinds))
        for tax, kinds, _ in collected
    ]


def _measured(
    tax: Tax, paths: Sequence[VariantPath], records: Mapping[str, Record], read: Reader
) -> Iterator[tuple[str, Row]]:
    """(kind, row) of each measure in the table's order, before Holm's adjustment and verdicts."""
    scores: Seeds = {path.variant.seed: read(path) for path in paths if path.scores}
    start = {path.variant.seed: read(path.start) for path in paths if path.start is not None}
    first = next(path for path in paths if path.scores)
    chosen = _chosen(first, _kinds(first, records), next(iter(scores.values())))
    both = {
        name: {
            seed: {column: columns[column] for column in chosen if column in columns}
            for seed, columns in seeds.items()
        }
        for name, seeds in ((tax.group, scores), (tax.start, start))
    }
    rows = [row for row in rows_of(both, tax.start) if row.group == tax.group]
    for kind in KINDS:
        for row in rows:
            column = (row.metric, row.evaluation)
            if chosen[column] != kind or (row.slice != ALL and kind != "answers"):
                continue
            if kind == "preference":
                runs = {seed: columns[column] for seed, columns in scores.items()}
                yield kind, against_constant(tax.group, column, runs, _EVEN)
            elif kind == "from_start":
                # The start's value is its distance from the base model, which is another distance.
                yield kind, replace(row, difference=None, p=None, detectable=None, verdict="",
                                    note="")  # fmt: skip
            elif row.difference is None and column not in next(iter(start.values())):
                yield kind, replace(row, note="its start has no result here")
            else:
                yield kind, row


def _kinds(path: VariantPath, records: Mapping[str, Record]) -> dict[Column, str]:
    return {
        column: kind
        for scored in path.scores
        if (kind := _kind(scored, records))
        for column in columns_of(scored, records[scored.stage.key])
    }


def _kind(scored: Scored, records: Mapping[str, Record]) -> str:
    """The kind that the scorer declares; `language` counts only on plain text, not on a task."""
    if scored.shows == "language":
        rows = records.get(rows_key(scored.stage))
        return scored.shows if rows is not None and rows.metrics.get("layout") == "text" else ""
    return scored.shows if scored.shows in KINDS else ""


def _chosen(
    path: VariantPath, kinds: Mapping[Column, str], scores: Mapping[Column, Scores]
) -> dict[Column, str]:
    """The columns to show, with their kinds.

    Reward, preference and diversity are shown on the prompts that the variant was aligned on, and
    the main metric of its answers on the other evaluations.
    """
    cell = path.variant.cell
    aligned_on = None if cell is None else cell.recipe.entry
    chosen: dict[Column, str] = {}
    for kind in KINDS:
        columns = [column for column, column_kind in kinds.items() if column_kind == kind]
        if kind == "answers":
            columns = _main(columns, scores)
        if kind in (*_OF_ITS_ROWS, "answers"):
            same = [c for c in columns if (c[1] == aligned_on) is (kind != "answers")]
            columns = same or columns
        chosen |= dict.fromkeys(columns, kind)
    return chosen


def _main(columns: Sequence[Column], scores: Mapping[Column, Scores]) -> list[Column]:
    """The columns of the metric that stands for the quality of answers, for every evaluation."""
    names = list(dict.fromkeys(metric for metric, _ in columns))
    up = [c[0] for c in columns if scores[c].higher_is_better]
    main = next(iter([*(name for name in MAIN if name in names), *up, *names]), None)
    return [column for column in columns if column[0] == main]
