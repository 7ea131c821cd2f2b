"""What alignment cost: each variant that goes on from another training, against that one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.comparison.result import ALL, MAIN, Measured, Row, Tax, VariantResult
from harness.comparison.rows import against_constant, rows_of
from harness.comparison.scores import Column, Reader, Scores, columns_of, rows_of_stage
from harness.comparison.verdicts import adjusted
from harness.planning.planner import Scored, VariantPath
from harness.store.stage import Record

KINDS = (
    "reward", "preference", "from_start", "from_base", "language", "answers", "diversity",
)  # fmt: skip
"""What is told of an aligned variant, in the order of the table: the mean reward; how often it is
preferred to its start; how far it went from its start and from the base; how likely general text is
to it; how good its answers are, by family; how much they vary."""
_EVEN = 0.5
"""Of a preference: neither is better."""
_OF_ITS_ROWS = ("reward", "preference", "diversity")
"""Told of the prompts a variant was aligned on, where these are evaluated."""

Seeds = Mapping[int, Mapping[Column, Scores]]


def taxes(
    groups: Mapping[str, Sequence[VariantPath]],
    variants: Sequence[VariantResult],
    records: Mapping[str, Record],
    read: Reader,
) -> list[Tax]:
    """One for each variant whose last stage goes on from another training.

    Args:
        groups: the paths of each variant as far as there are results.

    The differences of all of them are one family of Holm's, apart from the report's.
    """
    made: list[tuple[Tax, list[str], list[Row]]] = []
    for variant in variants:
        paths = groups[variant.group]
        start = paths[0].start
        if start is None:
            continue
        tax = Tax(variant.group, start.variant.group)
        if not variant.has_result:
            made.append((replace(tax, reason="; ".join(variant.reasons)), [], []))
        else:
            measured = list(_measured(tax, paths, records, read))
            made.append((tax, [kind for kind, _ in measured], [row for _, row in measured]))
    rows = iter(adjusted([row for _, _, own in made for row in own]))
    return [
        replace(tax, measures=tuple(Measured(kind, next(rows)) for kind in kinds))
        for tax, kinds, _ in made
    ]


def _measured(
    tax: Tax, paths: Sequence[VariantPath], records: Mapping[str, Record], read: Reader
) -> Iterator[tuple[str, Row]]:
    """Kinds and rows of a variant, in the table's order, before Holm and the verdicts."""
    own: Seeds = {path.variant.seed: read(path) for path in paths if path.scores}
    start = {path.variant.seed: read(path.start) for path in paths if path.start is not None}
    first = next(path for path in paths if path.scores)
    chosen = _chosen(first, _kinds(first, records), next(iter(own.values())))
    cut = {
        name: {seed: {c: found[c] for c in chosen if c in found} for seed, found in seeds.items()}
        for name, seeds in ((tax.group, own), (tax.start, start))
    }
    rows = [row for row in rows_of(cut, tax.start) if row.group == tax.group]
    for kind in KINDS:
        for row in rows:
            column = (row.metric, row.evaluation)
            if chosen[column] != kind or (row.slice != ALL and kind != "answers"):
                continue
            if kind == "preference":
                runs = {seed: found[column] for seed, found in own.items()}
                yield kind, against_constant(tax.group, column, runs, _EVEN)
            elif kind == "from_start":
                # The start's figure is its own way from the base: another distance.
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
    """As its scorer declares; of the language only on text that is no task."""
    if scored.shows == "language":
        rows = records[rows_of_stage(scored.stage).key]
        return scored.shows if rows.metrics.get("layout") == "text" else ""
    return scored.shows if scored.shows in KINDS else ""


def _chosen(
    path: VariantPath, kinds: Mapping[Column, str], scores: Mapping[Column, Scores]
) -> dict[Column, str]:
    """The columns that are told: of reward, preference and diversity on the prompts that the
    variant was aligned on; of answers the main metric, on the other evaluations."""
    objective = path.variant.objective
    aligned_on = (objective.data if objective is not None else None) or path.variant.data
    found: dict[Column, str] = {}
    for kind in KINDS:
        columns = [column for column, told in kinds.items() if told == kind]
        if kind == "answers":
            columns = _main(columns, scores)
        if kind in (*_OF_ITS_ROWS, "answers"):
            same = [c for c in columns if (c[1] == aligned_on) is (kind != "answers")]
            columns = same or columns
        found |= dict.fromkeys(columns, kind)
    return found


def _main(columns: Sequence[Column], scores: Mapping[Column, Scores]) -> list[Column]:
    """Every evaluation's column of the metric that stands for the answers' quality."""
    names = list(dict.fromkeys(metric for metric, _ in columns))
    up = [c[0] for c in columns if scores[c].higher_is_better]
    main = next(iter([*(name for name in MAIN if name in names), *up, *names]), None)
    return [column for column in columns if column[0] == main]
