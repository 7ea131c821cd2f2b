"""`harness report`: compares the records of a suite's stages and renders the report."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.report_folder import STAMP, stamp
from harness.commands.report_folder import place as suite_place
from harness.commands.session import (
    Opened,
    records_of,
    refuse_bad_data,
    run_command,
    warn_of_changed_code,
)
from harness.commands.stored_baselines import digests_of, read_baselines
from harness.core import component, registry
from harness.core.errors import HarnessError, StoreError, why
from harness.core.files import digest_file, digest_json, write_atomic
from harness.core.measure import versions
from harness.core.sources import digest_of, package_digest
from harness.core.text import number_of
from harness.scheduling.schedule import Outcome, with_skipped
from harness.store.places import kept_credentials
from harness.store.stage import Record

if TYPE_CHECKING:  # it takes a second to import, which a report that is up to date does not need
    from harness.comparison.result import Comparison

_FIGURES = ("numpy", "pandas", "pyarrow", "scipy")
"""Libraries that a report's numbers are computed with."""


class NotStored(HarnessError):
    """A store does not have what is asked of it; `fix` is the command that makes it."""


def stored(opened: Opened) -> dict[str, Record]:
    """The records that a report needs, by key, as the last run left them; nothing is run.

    They include failed stages, and stages that could not run because of these.

    Raises:
        SuiteError: the data cannot be used as the suite asks.
        NotStored: some stages have not run yet, or their outputs are damaged.
    """
    stages, targets = opened.plan.stages(), list(opened.plan.targets())
    ran = records_of(stages, opened.store)
    refuse_bad_data(Outcome({key: r for key, r in ran.items() if r.kind == "data"}))
    records = with_skipped(stages, ran)
    missing = [s for s in targets if s.key not in records]
    damaged = [
        s
        for s in targets
        if s.key in records and records[s.key].ok and not opened.store.intact(s, records[s.key])
    ]
    for which, what in ((missing, "not run"), (damaged, "damaged outputs")):
        if which:
            names = ", ".join(dict.fromkeys(f"{s.kind} {s.label}" for s in which[:5]))
            more = " ..." if len(which) > 5 else ""
            raise NotStored(
                f"{number_of(len(which), 'stage has', 'stages have')} {what}: {names}{more}",
                fix=run_command(opened),
            )
    warn_of_changed_code(records)
    return records


def failures(opened: Opened, records: Mapping[str, Record]) -> list[Record]:
    """The failed records because of which a run, or its report, exits with status 5."""
    return Outcome(dict(records), trials=opened.plan.trial_keys()).failed


def compared(opened: Opened, records: Mapping[str, Record]) -> Comparison:
    """The comparison of all variants by these records."""
    from harness import comparison as comparing

    baselines = read_baselines(opened.plan)
    return comparing.compare(opened.plan, records, opened.store, opened.command, baselines)


@dataclass(frozen=True)
class Reported:
    """A report that was written or was up to date.

    Attributes:
        text: the summary for the terminal.
        comparison: None if the report was up to date, so that nothing was compared.
    """

    text: str
    folder: Path
    comparison: Comparison | None = None


def report(
    opened: Opened, records: Mapping[str, Record], folder: Path, *, examples: bool
) -> Reported:
    """Compare and render, unless the folder has the report of exactly these records already.

    If the folder cannot be written, the report goes into the store's folder or into a temporary
    one, with a warning.

    Args:
        examples: whether the report has prompts, references and answers.

    Raises:
        StoreError: none of these folders can be written.
    """
    start = time.monotonic()
    inputs = _inputs(opened, records, examples=examples)
    known = stamp(folder)
    if known and known["inputs"] == inputs and all((folder / f).is_file() for f in known["files"]):
        opened.seconds["report"] = time.monotonic() - start
        return Reported(known["text"], folder)
    from harness import report as reporting

    comparison = compared(opened, records)
    text = reporting.terminal_table(comparison)

    def write(place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        told = {"suite": suite_place(opened.loaded.path, place), "text": text}
        # Until it is complete, its stamp says only whose it is.
        write_atomic(place / STAMP, json.dumps({**told, "inputs": "", "files": []}))
        files = reporting.render(comparison, place, examples=examples)
        names = [path.relative_to(place).as_posix() for path in files]
        write_atomic(place / STAMP, json.dumps({**told, "inputs": inputs, "files": names}))

    place = _rescued(write, folder, opened)
    opened.seconds["compare and report"] = time.monotonic() - start
    return Reported(text, place, comparison)


def _rescued(write: Callable[[Path], None], folder: Path, opened: Opened) -> Path:
    """Write into the first folder that can be written: the wanted one, else one of two others."""
    places: tuple[Callable[[], Path], ...] = (
        lambda: folder,
        lambda: opened.store.root / "reports" / opened.plan.suite.name,
        lambda: Path(tempfile.mkdtemp(prefix="harness-report-")),
    )
    for place in places:
        try:
            target = place()
            write(target)
        except OSError as error:
            print(f"warning: the report cannot be written: {why(error)}", file=sys.stderr)
            continue
        if target != folder:
            print(f"warning: the report is in {target} instead of {folder}", file=sys.stderr)
        return target
    raise StoreError(
        "the report could be written nowhere; no result is lost, as the store has them all",
        fix="free space, then run `harness report` with the same options",
    )


def _inputs(opened: Opened, records: Mapping[str, Record], *, examples: bool) -> str:
    """A digest of all that a report shows, and of all code that its numbers may depend on."""
    plugins = {
        f"{axis} {name}": digest_of(module)
        for axis in (*component.AXES, "stage")
        for name, module in registry.from_elsewhere(axis).items()
    }
    return digest_json(
        {
            "suite": opened.loaded.suite.model_dump(mode="json"),
            "text": opened.loaded.text,
            "only": opened.only,
            "command": opened.command,
            "examples": examples,
            "baselines": digests_of(opened.plan),
            "judges": {
                f"{file.parent.name}/{file.name}": digest_file(file)
                for file in kept_credentials(opened.store.root)
            },
            "records": {k: [r.status, r.provenance.get("finished")] for k, r in records.items()},
            "code": {**plugins, "harness": package_digest(), **versions(_FIGURES)},
        }
    )


def write_records(
    opened: Opened,
    records: Mapping[str, Record],
    file: Path,
    *,
    examples: bool,
    others: Sequence[Record] = (),
) -> None:
    """Write the records of the plan's stages as JSON lines: numbers and digests, without any rows.

    Times of day are left out, so that two runs of the same suite differ in durations only.

    Args:
        examples: False also leaves out the messages of failures, as they may quote a row.
        others: records that are no part of the plan and are written behind it.

    Raises:
        StoreError: the file cannot be written.
    """
    lines = []
    # A stage that did not run because a trial failed has none; the record of its tuning says so.
    planned = [records[s.key] for s in opened.plan.stages() if s.key in records]
    for each in (*planned, *others):
        record = each.model_dump(mode="json")
        record["provenance"].pop("started", None)
        record["provenance"].pop("finished", None)
        if record["error"]:
            kept = ("reason", "message") if examples else ("reason",)
            record["error"] = {name: record["error"].get(name, "") for name in kept}
        lines.append(json.dumps(record, sort_keys=True) + "\n")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, "".join(lines))
    except OSError as error:
        raise StoreError(
            f"the records cannot be written: {why(error)}",
            fix="`harness report` with --records FILE writes them again",
        ) from error
