"""A run as a story: load, plan, execute, compare, render."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import plan as describe
from harness.core import component
from harness.core.errors import HarnessError, StoreError, SuiteError
from harness.core.files import digest_json, write_atomic
from harness.core.measure import versions
from harness.core.sources import digest_of, package_digest
from harness.planning.checks import length_notes, preflight, require_lengths, script_notes
from harness.planning.planner import Plan, plan
from harness.planning.trackers import refuse_trackers
from harness.scheduling.progress import ConsoleReporter
from harness.scheduling.schedule import (
    Kept,
    Outcome,
    Reporter,
    Starts,
    execute,
    pending,
    with_skipped,
)
from harness.store.made_by import changed_since
from harness.store.places import require_space, require_writable
from harness.store.stage import Record, Stage
from harness.store.store import Store
from harness.suite.suite import Loaded, load_suite

if TYPE_CHECKING:  # scipy and pandas take a second to import, which `plan` need not pay
    from harness.comparison import Comparison

_STAMP = ".inputs"
_FIGURES = ("numpy", "pandas", "pyarrow", "scipy")
"""Libraries that a report's figures come from."""


@dataclass
class Opened:
    """A suite with its plan and its store.

    Attributes:
        seconds: wall time of this run, by part; the ledger's frame.
        command: as it was typed; what makes the report again.
        settings: what `--set` changed in the suite.
        first: what this run did before the plan was known in full: rows read and measured.
    """

    loaded: Loaded
    store: Store
    plan: Plan
    only: str | None
    limit: int | None
    seconds: dict[str, float] = field(default_factory=dict)
    command: str = ""
    settings: tuple[str, ...] = ()
    first: Outcome = field(default_factory=Outcome)


def open_suite(
    name: str,
    settings: Sequence[str],
    store: Path,
    only: str | None,
    limit: int | None,
    *,
    ended: bool = False,
) -> Opened:
    """Load and plan; nothing is run.

    Args:
        ended: plan as the last run ended, to report it: a trial that it lost has failed.
    """
    loaded = load_suite(name, settings)
    opened_store = Store(store)
    planned = plan(loaded, opened_store, only, limit, opened_store.failures() if ended else None)
    if not ended:
        with loaded.boundary():
            _refuse_machine(planned)
    for warning in planned.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return Opened(loaded, opened_store, planned, only, limit, settings=tuple(settings))


def _refuse_machine(planned: Plan) -> None:
    """What ran on another machine can be reported here, and not run."""
    refusal = planned.executor.refuse(planned.suite.resources)
    if refusal:
        raise SuiteError(
            refusal,
            where=f"{planned.file}: executor",
            fix="set `executor: {local: {device_class: cpu}}` and no `resources.gpus`, or run where"
            " the GPUs are, with a torch that was built for them",
        )
    refuse_trackers(planned)


def run(opened: Opened, reporter: Reporter | None = None) -> Outcome:
    """Run what is not cached. The data stages come first, so that bad data costs no training; what
    follows a tuning is planned and run once its trials have ended.

    Raises:
        SuiteError: the data cannot be used as the suite wants; nothing was trained.
    """
    with opened.store.in_use(), Kept(opened.plan.executor) as executor:
        return _run(opened, executor, reporter or ConsoleReporter())


def require_places(report: Path, records: Path | None) -> None:
    """Refuse folders that the end of a run could not write into, before it begins.

    Raises:
        StoreError: which one, and why.
    """
    require_writable(report, "the report", "name another folder by --report-dir")
    if records is not None:
        require_writable(records.parent, f"the records {records}", "name another by --records")
        if records.is_dir():
            raise StoreError(f"{records} is a folder", fix="name a file by --records")


def _run(opened: Opened, executor: Starts, reporter: Reporter) -> Outcome:
    store, start = opened.store, time.monotonic()
    log = store.root / "log.txt"
    _prepare(opened, executor, reporter, log)
    stages, targets = opened.plan.stages(), list(opened.plan.targets())
    require_space(pending(stages, targets, store), store.root)
    opened.seconds["data stages"] = time.monotonic() - start
    start = time.monotonic()
    outcome = _execute(opened, executor, reporter, log, None)
    while opened.plan.open:
        known = opened.plan
        opened.plan = plan(opened.loaded, store, opened.only, opened.limit, outcome.records)
        if {s.key for s in known.targets()} == {s.key for s in opened.plan.targets()}:
            break  # nothing was chosen: every trial of some cell failed
        outcome = _execute(opened, executor, reporter, log, outcome)
    outcome.trials = opened.plan.trial_keys()
    opened.seconds["other stages"] = time.monotonic() - start
    _warn_of_changed_code(outcome.records)
    return outcome


def _prepare(opened: Opened, executor: Starts, reporter: Reporter, log: Path) -> None:
    """Read the rows, measure them, and refuse what cannot be done with them.

    Raises:
        SuiteError: the data cannot be used as the suite wants; nothing was trained.
    """
    store = opened.store
    for measured in (False, True):
        stages = opened.plan.groundwork() if measured else list(opened.plan.data.values())
        if pending(stages, stages, store):
            done = execute(stages, stages, executor, store, reporter, log, opened.first)
            _refuse_bad_data(done)
            opened.first = done
            # Which rows there are tells which are measured; which of them fit, what they cost.
            opened.plan = plan(opened.loaded, store, opened.only, opened.limit)
    preflight(opened.plan, _records(opened.plan.groundwork(), store))
    for note in (*length_notes(opened.plan), *script_notes(opened.plan, store)):
        print(f"note: {note}", file=sys.stderr)


def _execute(
    opened: Opened, executor: Starts, reporter: Reporter, log: Path, earlier: Outcome | None
) -> Outcome:
    stages, targets = opened.plan.stages(), list(opened.plan.targets())
    return execute(stages, targets, executor, opened.store, reporter, log, earlier)


def _records(stages: Sequence[Stage], store: Store) -> dict[str, Record]:
    return {s.key: record for s in stages if (record := store.record(s)) is not None}


def _refuse_bad_data(outcome: Outcome) -> None:
    causes = [r.error for r in outcome.failed if r.error and not r.error.get("skipped")]
    messages = [error.get("message", "") for error in causes]
    if messages:
        raise SuiteError("\n".join(dict.fromkeys(messages)))


def stored(opened: Opened) -> dict[str, Record]:
    """The records a report needs, without running anything: those that a run would end with, cells
    that failed and what these kept from running included.

    Raises:
        SuiteError: the data cannot be used as the suite wants.
        HarnessError: stages that have not run yet, or whose outputs are damaged, by name.
    """
    stages, targets = opened.plan.stages(), list(opened.plan.targets())
    ran = _records(stages, opened.store)
    _refuse_bad_data(Outcome({key: r for key, r in ran.items() if r.kind == "data"}))
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
                fix=_run_command(opened),
            )
    _warn_of_changed_code(found)
    return found


def _warn_of_changed_code(records: Mapping[str, Record]) -> None:
    if warning := changed_since(records.values()):
        print(f"warning: {warning}", file=sys.stderr)


def failures(opened: Opened, records: Mapping[str, Record]) -> list[Record]:
    """What makes a run, or a report of it, exit with 5."""
    return Outcome(dict(records), trials=opened.plan.trial_keys()).failed


def _run_command(opened: Opened) -> str:
    """The command that runs just this suite, into this store."""
    words = ["harness", "run", str(opened.loaded.path), "--store", str(opened.store.root)]
    words += [word for setting in opened.settings for word in ("--set", setting)]
    for option, value in (("--only", opened.only), ("--limit", opened.limit)):
        words += [] if value is None else [option, str(value)]
    return shlex.join(words)


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
    from harness import comparison as comparing
    from harness import report as reporting

    comparison = comparing.compare(opened.plan, records, opened.store, opened.command)
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
        for axis in component.AXES
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


def ledger(outcome: Outcome, opened: Opened) -> str:
    """Where this run's time went, by kind of stage and phase."""
    slots, first = opened.plan.executor.capacity(), opened.first
    whole = Outcome({**first.records, **outcome.records}, [*first.ran, *outcome.ran])
    return describe.ledger(whole, opened.seconds, slots, opened.plan)


def describe_plan(opened: Opened, *, why: bool) -> str:
    """The stages as a table: state, expected time and memory; with `why`, what differs.

    Raises:
        SuiteError: rows are known to be too long for what the suite wants of them.
    """
    require_lengths(opened.plan)
    return describe.table(opened.plan, opened.store, why=why)
