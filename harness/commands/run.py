"""`harness run`, and the same from Python: runs what is not cached, compares and reports."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import report as reports
from harness.commands.session import (
    Opened,
    open_suite,
    records_of,
    refuse_bad_data,
    run_command,
    store_at,
    warn_of_changed_code,
    warn_of_mistakes,
)
from harness.core.errors import StoreError
from harness.planning.checks import length_notes, preflight, script_notes
from harness.planning.graph import upstream
from harness.planning.planner import Plan
from harness.scheduling.progress import ConsoleReporter
from harness.scheduling.schedule import Kept, Left, Outcome, Reporter, Starts, execute, pending
from harness.store.places import require_space, require_writable
from harness.store.stage import Stage

if TYPE_CHECKING:  # it takes a second to import, which a cached run does not need
    from harness.comparison.result import Comparison


def run(
    suite: str | Path,
    *,
    only: str | None = None,
    limit: int | None = None,
    settings: Sequence[str] = (),
    store: str | Path | None = None,
    report_dir: str | Path | None = None,
    examples: bool = True,
) -> Comparison:
    """Train and score what is not cached yet, and compare: `harness run` for a script or notebook.

        comparison = harness.run("suite.yaml", settings=["sft.learning_rate=1e-3"])
        print(comparison.row("lora-sft", "rougeL").estimate)

    Progress goes to stderr. A failed variant raises no error: it is in the comparison and in
    `comparison.failed`, with its reason.

    Args:
        suite: a YAML file, or a suite of the package such as `pocket/demo`.
        only: run only the variants with names that match this pattern, such as `lora*`.
        limit: keep this many rows of every split.
        settings: changes to the suite, each as for `--set`: `seeds=[0,1]`.
        store: the folder of the cached stages; default: HARNESS_STORE, else `results/store`.
        report_dir: also write the report, into this folder.
        examples: whether the report has prompts, references and answers.

    Raises:
        HarnessError: the suite or its data has a mistake, or a folder cannot be written.
    """
    opened = open_suite(str(suite), settings, store_at(store), only, limit)
    warn_of_mistakes(opened.plan)
    opened.command = run_command(opened)
    folder = None if report_dir is None else Path(report_dir)
    if folder is not None:
        require_places(folder, None)
    records = run_stages(opened).records
    if folder is not None:
        reported = reports.report(opened, records, folder, examples=examples)
        if reported.comparison is not None:
            return reported.comparison
    return reports.compared(opened, records)


def run_stages(opened: Opened, reporter: Reporter | None = None) -> Outcome:
    """Run the stages that are not cached.

    The data stages run first, so that bad data is found before anything is trained. The stages
    after a tuning are planned and run when its trials have ended.

    Raises:
        SuiteError: the data cannot be used as the suite asks; nothing was trained.
    """
    with opened.store.in_use(), Kept(opened.plan.executor) as executor:
        return _run(opened, executor, reporter or ConsoleReporter())


def run_beside(
    opened: Opened, targets: Sequence[Stage], reporter: Reporter | None = None
) -> Outcome:
    """Run stages that are no part of a suite's plan, and what they read, as far as they are not
    cached.

    Raises:
        SuiteError: the data cannot be used as the suite asks; nothing was trained.
    """
    with opened.store.in_use(), Kept(opened.plan.executor) as executor:
        reporter, log = reporter or ConsoleReporter(), opened.store.root / "log.txt"
        stages = upstream(targets)
        if any(stage.kind == "train" for stage in pending(stages, targets, opened.store)):
            _prepare(opened, executor, reporter, log)
        return execute(stages, list(targets), executor, opened.store, reporter, log, None)


def require_places(report: Path, records: Path | None) -> None:
    """Check, before a run begins, that its report and records can be written when it ends.

    Raises:
        StoreError: a folder or file cannot be written.
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
    require_space(pending(opened.plan.stages(), opened.targets(), store), store.root)
    opened.seconds["data stages"] = time.monotonic() - start
    start = time.monotonic()
    outcome = _execute(opened, executor, reporter, log, None)
    while opened.plan.open:
        known = opened.plan
        opened.plan_again(outcome.records)
        if {s.key for s in known.targets()} == {s.key for s in opened.plan.targets()}:
            break  # every trial of some variant failed, so that nothing was chosen
        outcome = _execute(opened, executor, reporter, log, outcome)
    outcome.trials = opened.plan.trial_keys()
    opened.seconds["other stages"] = time.monotonic() - start
    warn_of_changed_code(outcome.records)
    return outcome


def _prepare(opened: Opened, executor: Starts, reporter: Reporter, log: Path) -> None:
    """Read the rows, measure their lengths, and check that the suite can use them.

    Raises:
        SuiteError: the data cannot be used as the suite asks; nothing was trained.
    """
    store = opened.store
    for measured in (False, True):
        data = {stage.key: stage for stage in opened.plan.data.values()}  # equal rows are read once
        stages = opened.plan.groundwork() if measured else list(data.values())
        if pending(stages, stages, store):
            left = _left(opened, opened.first)
            done = execute(stages, stages, executor, store, reporter, log, opened.first, left)
            refuse_bad_data(done)
            opened.first = done
            # The rows decide what is measured, and their lengths what the trainings cost.
            opened.plan_again()
    records = records_of(opened.plan.groundwork(), store)
    preflight(opened.plan, lambda stage: records[stage.key].metrics)
    for note in (*length_notes(opened.plan), *script_notes(opened.plan, store)):
        print(f"note: {note}", file=sys.stderr)


def _execute(
    opened: Opened, executor: Starts, reporter: Reporter, log: Path, earlier: Outcome | None
) -> Outcome:
    stages, targets = opened.plan.stages(), opened.targets()
    left = _left(opened, earlier or opened.first)
    return execute(stages, targets, executor, opened.store, reporter, log, earlier, left)


def _left(opened: Opened, ended: Outcome) -> Left:
    """What the run has left: one counter goes through all its parts."""
    ground, store = opened.plan.groundwork(), opened.store
    stages = {stage.key: stage for stage in (*ground, *opened.plan.stages())}
    failed = {key for key, record in ended.records.items() if not record.ok}
    todo = pending(stages.values(), [*ground, *opened.targets()], store)
    waiting = {stage.key: stage for stage in todo if stage.key not in failed}
    others = [s for key, s in stages.items() if key not in waiting and key not in ended.ran]
    return list(waiting.values()), sum(store.done(s, outputs=False) is not None for s in others)


def ledger(outcome: Outcome, opened: Opened) -> str:
    """A text on where this run's time went, by kind of stage and phase."""
    slots, first = opened.plan.executor.capacity(), opened.first
    whole = Outcome({**first.records, **outcome.records}, [*first.ran, *outcome.ran])
    return _ledger(whole, opened.seconds, slots, opened.plan)


def _ledger(outcome: Outcome, wall: Mapping[str, float], slots: int, planned: Plan) -> str:
    """Where a run's time went, and how much sharing stages saved.

    Args:
        wall: wall-clock seconds, by part of the run.
        slots: how many stages could run at the same time.
    """
    parts: dict[str, float] = defaultdict(float)
    inside = 0.0
    for key in outcome.ran:
        record = outcome.records[key]
        inside += record.cost.get("seconds", 0.0)
        for phase, seconds in record.cost.get("phases", {}).items():
            parts[phase if phase in ("import", "load", "audit", "commit") else record.kind] += (
                seconds
            )
    rest = inside - sum(parts.values())
    lines = [f"time: {sum(wall.values()):.1f} s"]
    for name, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        if seconds >= 0.05:
            lines.append(f"  {name:<14} {seconds:6.1f} s")
    if outcome.ran:
        alone = _alone(outcome, planned)
        lines.append(f"  {'stages':<14} {inside:6.1f} s  (each of them once; {alone:.1f} s if every"
                     " variant ran its whole path)")  # fmt: skip
        lines.append(f"  {'in stages':<14} {rest:6.1f} s  (beside the above)")
        available = slots * (wall["data stages"] + wall["other stages"])
        what = "slots without work, starting workers" + (f"; {slots} in all" if slots > 1 else "")
        lines.append(f"  {'waiting':<14} {available - inside:6.1f} s  ({what})")
    for name in ("compare and report", "report"):
        if name in wall:
            lines.append(f"  {name:<14} {wall[name]:6.1f} s")
    return "\n".join(lines)


def _alone(outcome: Outcome, planned: Plan) -> float:
    """The seconds of the stages that ran if each variant ran its own path: one that several need
    counts for each of them, and one that is on no path, such as a search for test rows in the
    training rows, once."""
    sharing = Counter(stage.key for path in planned.paths for stage in path.work())
    seconds = {key: float(outcome.records[key].cost.get("seconds", 0.0)) for key in outcome.ran}
    return sum(spent * max(sharing[key], 1) for key, spent in seconds.items())
