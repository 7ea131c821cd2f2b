"""`harness run --changed`: runs only what differs from the records of an earlier run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.commands.report import failures, write_records
from harness.commands.run import run_stages
from harness.commands.session import Opened, run_command
from harness.commands.sides import store_baseline
from harness.comparison.measured import Run
from harness.comparison.result import Estimate
from harness.core.errors import HarnessError
from harness.core.text import line, number_of
from harness.importers import records as record_files
from harness.importers.files import Unreadable
from harness.planning.changed import changed_groups
from harness.planning.checks import Misses
from harness.report import numbers
from harness.report.check.terminal import aligned
from harness.store.stage import Record, Stage

_REASONS, _ROWS = 6, 30
"""How many differences of a variant, and how many metrics of those that did not change, it
shows."""


@dataclass(frozen=True)
class Done:
    """What a run of what changed did.

    Attributes:
        groups: the variants that were run.
        complete: whether the store has every result of the suite now, so that it can be reported.
        failed: whether a variant failed.
    """

    text: str
    groups: Sequence[str]
    records: Mapping[str, Record]
    complete: bool
    failed: bool


def run_changed(opened: Opened, file: Path, *, examples: bool = True) -> Done:
    """Run the variants whose results a file of records does not hold, and write it again.

    The records of variants that did not change stay in it, so that it always tells of the whole
    suite. If nothing changed, nothing is run or written.

    Args:
        file: what `--records` of an earlier run wrote; if there is none, all is new.
        examples: whether messages of failures, which may quote rows, are kept in the file.

    Raises:
        HarnessError: the file is no such file, or the suite has a mistake.
    """
    before = _read(file)
    opened.earlier = before
    opened.plan_again()
    if not opened.targets():
        text = f"nothing changed since {file} was written: nothing was run"
        parts = [text, *_table(_runs(file), _runs(file), ()), *_elsewhere(opened)]
        return Done("\n\n".join(parts), (), before, _complete(opened), failed=False)
    earlier_runs = _runs(file) if before else {}
    outcome = run_stages(opened)
    groups = changed_groups(opened.plan, before)
    text = "\n".join(_what_changed(opened, before, groups, file))
    # What --only leaves out of this run is no part of the plan, and keeps its records.
    kept = {stage.key for stage in opened.plan.stages()}
    others = [r for key, r in before.items() if key not in kept] if opened.only else []
    records = {**{key: r for key, r in before.items() if key in kept}, **outcome.records}
    write_records(opened, records, file, examples=examples, others=others)
    parts, complete = [text, *_table(earlier_runs, _runs(file), groups)], _complete(opened)
    if not complete:
        parts.append(
            "no report, as the store has not all results: `harness run` without --changed has them"
        )
        parts += _elsewhere(opened)
    failed = bool(failures(opened, outcome.records))
    return Done("\n\n".join(parts), groups, records, complete, failed)


def _read(file: Path) -> dict[str, Record]:
    """The records in a file by key; none if there is no file."""
    if not file.exists():
        return {}
    try:
        return {record.key: record for _, record in record_files.lines(file)}
    except Unreadable as error:
        raise HarnessError(
            error.message, where=error.where,
            fix="give --changed the file that `harness run --records FILE` wrote",
        ) from None  # fmt: skip


def _runs(file: Path) -> dict[tuple[str, int], Run]:
    try:
        return {(run.variant, run.seed): run for run in record_files.read(file)}
    except Unreadable:  # it has no score: every variant failed
        return {}


def _complete(opened: Opened) -> bool:
    """Whether the store has all results, not only those that this run asked for."""
    return all(opened.store.done(stage, outputs=True) for stage in opened.plan.targets())


def _elsewhere(opened: Opened) -> list[str]:
    """What to do to check the variants whose scores of examples are not in this store."""
    groups = dict.fromkeys(
        path.variant.group
        for path in opened.plan.paths
        if not all(opened.store.done(stage, outputs=True) for stage in path.results())
    )
    if not groups:
        return []
    first = next(iter(groups))
    return [
        f"`harness check` cannot judge from this store: {line(', '.join(groups))} (a file of"
        " records has no scores of examples)\n"
        "  store each one that checks need, where it has run, and commit it:"
        f" {store_baseline(f'{opened.loaded.path}:{first}')}\n"
        f"  or run it here: {run_command(replace(opened, only=first))}"
    ]


def _what_changed(
    opened: Opened, before: Mapping[str, Record], groups: Sequence[str], file: Path
) -> Iterator[str]:
    known = {path.variant.group: path for path in opened.plan.paths}
    if not before:
        yield f"there is no {file} yet: {number_of(len(known), 'variant is', 'variants are')} new"
        return
    yield f"{len(groups)} of {number_of(len(known), 'variant')} changed since {file} was written"
    for group in groups:
        stages = [] if group not in known else known[group].stages()
        reasons = [reason for stage in stages for reason in _reasons(stage, before)]
        yield f"  {line(group)}"
        yield from (f"    {line(reason)}" for reason in reasons[:_REASONS])
        if len(reasons) > _REASONS:
            yield f"    and {len(reasons) - _REASONS} more differences"


def _reasons(stage: Stage, before: Mapping[str, Record]) -> list[str]:
    """How a stage differs from what it was; empty if it is known, or if only its inputs changed,
    as these say why."""
    if any(source.key not in before for source in stage.inputs.values()):
        return []
    name = f"{stage.kind} {stage.label}"
    if (record := before.get(stage.key)) is not None:
        failed = (record.error or {}).get("reason", "failed")
        return [] if record.ok else [f"{name}: it failed before ({failed})"]
    same = [r for r in before.values() if (r.kind, r.label) == (stage.kind, stage.label)]
    if not same:
        return [f"{name}: new"]
    _, *differences = Misses(record.model_dump() for record in same).explain(stage)
    return [f"{name}: {difference}" for difference in differences]


def _table(
    before: Mapping[tuple[str, int], Run],
    now: Mapping[tuple[str, int], Run],
    groups: Sequence[str],
) -> list[str]:
    """Each metric before and now; of what did not change, as the records tell it."""
    rows: list[tuple[str, ...]] = []
    same: list[tuple[str, ...]] = []
    for (variant, seed), run in now.items():
        earlier = before.get((variant, seed))
        values = {} if earlier is None else {m.name: m.value for m in earlier.metrics}
        name = f"{line(variant)}{f'#{seed}' if seed else ''}"
        for metric in run.metrics:
            cells = (name, line(metric.name), _number(values.get(metric.name)))
            if variant in groups:
                rows.append((*cells, _number(metric.value)))
            else:
                same.append((*cells, "as before"))
    if not rows and not same:
        return []
    shown = [*rows, *same[:_ROWS]]
    parts = [aligned([("variant", "metric", "before", "now"), *shown])]
    if len(same) > _ROWS:
        parts.append(f"and {len(same) - _ROWS} more metrics as before")
    return ["\n".join(parts).replace(numbers.MINUS, "-")]


def _number(value: float | None) -> str:
    return numbers.MISSING if value is None else numbers.value(Estimate(value))
