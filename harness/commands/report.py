"""`harness report`: the records of a suite's stages, compared and rendered."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.session import (
    Opened,
    records_of,
    refuse_bad_data,
    run_command,
    warn_of_changed_code,
)
from harness.core import component
from harness.core.errors import HarnessError, StoreError
from harness.core.files import digest_json, write_atomic
from harness.core.measure import versions
from harness.core.sources import digest_of, package_digest
from harness.scheduling.schedule import Outcome, with_skipped
from harness.store.stage import Record

if TYPE_CHECKING:  # scipy and pandas take a second to import, which a report that stands need not
    from harness.comparison.result import Comparison

_STAMP = ".inputs"
_FIGURES = ("numpy", "pandas", "pyarrow", "scipy")
"""Libraries that a report's figures come from."""


def stored(opened: Opened) -> dict[str, Record]:
    """The records a report needs, without running anything: those that a run would end with, cells
    that failed and what these kept from running included.

    Raises:
        SuiteError: the data cannot be used as the suite wants.
        HarnessError: stages that have not run yet, or whose outputs are damaged, by name.
    """
    stages, targets = opened.plan.stages(), list(opened.plan.targets())
    ran = records_of(stages, opened.store)
    refuse_bad_data(Outcome({key: r for key, r in ran.items() if r.kind == "data"}))
    found = with_skipped(stages, ran)
    missing = [s for s in targets if s.key not in found]
    damaged = [
        s
        for s in targets
        if s.key in found and found[s.key].ok and not opened.store.intact(s, found[s.key])
    ]
    for which, what in ((missing, "have not run"), (damaged, "have damaged outputs")):
        if which:
            names = ", ".join(dict.fromkeys(f"{s.kind} {s.label}" for s in which[:5]))
            raise HarnessError(
                f"{len(which)} stages {what}: {names}{' ...' if len(which) > 5 else ''}",
                fix=run_command(opened),
            )
    warn_of_changed_code(found)
    return found


def failures(opened: Opened, records: Mapping[str, Record]) -> list[Record]:
    """What makes a run, or a report of it, exit with 5."""
    return Outcome(dict(records), trials=opened.plan.trial_keys()).failed


def compared(opened: Opened, records: Mapping[str, Record]) -> Comparison:
    """Every variant beside its baseline, by these records."""
    from harness import comparison as comparing

    return comparing.compare(opened.plan, records, opened.store, opened.command)


@dataclass(frozen=True)
class Reported:
    """The text for the terminal, the report's folder, and the comparison if it had to be made."""

    text: str
    folder: Path
    comparison: Comparison | None = None


def report(
    opened: Opened, records: Mapping[str, Record], folder: Path, *, examples: bool
) -> Reported:
    """Compare and render, unless the folder holds the report of just these records.

    A folder that cannot be written loses no report: it goes beside the store's stages then, or into
    a temporary folder, and that is said.

    Raises:
        StoreError: it can be written nowhere.
    """
    start = time.monotonic()
    inputs = _inputs(opened, records, examples=examples)
    stamp = folder / _STAMP
    if stamp.is_file():
        known = json.loads(stamp.read_text(encoding="utf-8"))
        if known["inputs"] == inputs and all((folder / name).is_file() for name in known["files"]):
            opened.seconds["report"] = time.monotonic() - start
            return Reported(known["text"], folder)
    from harness import report as reporting

    comparison = compared(opened, records)
    text = reporting.terminal_table(comparison)

    def write(place: Path) -> None:
        (place / _STAMP).unlink(missing_ok=True)  # half a report is no one's
        files = reporting.render(comparison, place, examples=examples)
        names = [path.relative_to(place).as_posix() for path in files]
        stamp = json.dumps({"inputs": inputs, "files": names, "text": text})
        write_atomic(place / _STAMP, stamp)

    place = _rescued(write, folder, opened)
    opened.seconds["compare and report"] = time.monotonic() - start
    return Reported(text, place, comparison)


def _rescued(write: Callable[[Path], None], folder: Path, opened: Opened) -> Path:
    """The first folder that a report could be written into, of the wanted one and two others."""
    places: tuple[Callable[[], Path], ...] = (
        lambda: folder,
        lambda: opened.store.root / "reports" / opened.plan.suite.name,
        lambda: Path(tempfile.mkdtemp(prefix="harness-report-")),
    )
    for place in places:
        try:
            found = place()
            write(found)
        except OSError as error:
            print(f"warning: the report cannot be written: {error}", file=sys.stderr)
            continue
        if found != folder:
            print(f"warning: the report is in {found} instead of {folder}", file=sys.stderr)
        return found
    raise StoreError(
        "the report could be written nowhere; the store has all that it says",
        fix="free space, then run `harness report` with the same options",
    )


def _inputs(opened: Opened, records: Mapping[str, Record], *, examples: bool) -> str:
    """Digest of all that a report shows, with all code that may have a part in its figures."""
    plugins = {
        f"{axis} {name}": digest_of(module)
        for axis in (*component.AXES, "stage")
        for name, module in component.from_elsewhere(axis).items()
    }
    return digest_json(
        {
            "suite": opened.loaded.suite.model_dump(mode="json"),
            "text": opened.loaded.text,
            "only": opened.only,
            "command": opened.command,
            "examples": examples,
            "records": {k: [r.status, r.provenance.get("finished")] for k, r in records.items()},
            "code": {**plugins, "harness": package_digest(), **versions(_FIGURES)},
        }
    )


def write_records(
    opened: Opened, records: Mapping[str, Record], file: Path, *, examples: bool
) -> None:
    """The records of the plan's stages as JSON lines: figures and digests, no rows, no weights.

    What ran where is left out, so that a run made again elsewhere differs in times only.

    Args:
        examples: without them a failure keeps its reason alone, as its message may quote a row.
    """
    lines = []
    for stage in opened.plan.stages():
        if stage.key not in records:
            continue  # not run, as a trial before it failed; its tuning's record says so
        record = records[stage.key].model_dump(mode="json")
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
            f"the records cannot be written: {error}",
            fix="`harness report` with --records FILE writes them again",
        ) from error
