"""A plan, and a run's time, as tables for the terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from harness.planning.checks import Misses, length_notes, script_notes
from harness.planning.code import executes
from harness.planning.planner import Plan
from harness.scheduling.schedule import Outcome, pending
from harness.store.rows_used import all_rows_used, sentences
from harness.store.stage import LONG
from harness.store.store import Store


def ledger(outcome: Outcome, wall: Mapping[str, float], slots: int, planned: Plan) -> str:
    """Where a run's time went, by kind of stage and phase, and what sharing stages saved.

    Args:
        wall: seconds of the run by part. slots: stages that could run at once.
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
        ran = {key: outcome.records[key].cost.get("seconds", 0.0) for key in outcome.ran}
        alone = sum(ran.get(s.key, 0.0) for path in planned.paths for s in path.work())
        lines.append(f"  {'stages':<14} {inside:6.1f} s  (each of them once; {alone:.1f} s if every"
                     " variant ran its whole path)")  # fmt: skip
        lines.append(f"  {'in stages':<14} {rest:6.1f} s  (beside the above)")
        given = slots * (wall["data stages"] + wall["other stages"])
        what = "slots without work, starting workers" + (f"; {slots} in all" if slots > 1 else "")
        lines.append(f"  {'waiting':<14} {given - inside:6.1f} s  ({what})")
    for name in ("compare and report", "report"):
        if name in wall:
            lines.append(f"  {name:<14} {wall[name]:6.1f} s")
    return "\n".join(lines)


def table(planned: Plan, store: Store, *, why: bool) -> str:
    """The stages as a table: state, expected time and memory; with `why`, what differs."""
    todo = {stage.key for stage in pending(planned.stages(), list(planned.targets()), store)}
    idle = _failed_trials(planned, store) - todo
    lines = [f"{planned.suite.name}: {len(planned.paths)} variants, baseline {planned.baseline}"]
    lines.append(f"{'state':<8} {'stage':<14} {'for':<34} {'expected':>10} {'state memory':>13}")
    total, unmeasured = 0.0, 0
    for stage in planned.stages():
        seconds = stage.expected_seconds
        memory = stage.predicted.get("state_bytes")
        state = "to run" if stage.key in todo else "failed" if stage.key in idle else "cached"
        total += (seconds or 0.0) if stage.key in todo else 0.0
        unmeasured += stage.key in todo and seconds is None and stage.kind in LONG
        told = (
            f"{seconds:.0f} s" if seconds is not None else "unknown" if stage.kind in LONG else ""
        )
        lines.append(
            f"{state:<8} {stage.kind:<14} {stage.label:<34.34}"
            f" {told:>10}"
            f" {f'{memory / 2**20:.1f} MiB' if memory is not None else '':>13}"
        )
    cached = len(planned.stages()) - len(todo) - len(idle)
    expected = f"; about {total:.0f} s expected for those with a formula" if total else ""
    lines.append(f"{len(todo)} to run, {cached} cached{expected}")
    lines += _formats(planned)
    lines += _recipes(planned)
    lines += _afterwards(planned)
    if unmeasured:
        lines.append(
            f"the time of {unmeasured} of them is unknown until measured: such a stage has not run"
            " with a model of about this size on this class of device, or its rows are not read yet"
        )
    if pending(planned.lengths, planned.lengths, store):
        lines.append("which rows fit is unknown until the data stages have run")
    lines += _rows_left_out(planned, store)
    lines += length_notes(planned)
    lines += script_notes(planned, store)
    lines += _code(planned)
    if why:
        misses = Misses(store)
        for stage in planned.stages():
            if stage.key in todo:
                lines.append(f"\n{stage.kind} {stage.label} ({stage.key[:12]}) is not cached:")
                lines += [f"  {line}" for line in misses.explain(stage)]
    return "\n".join(lines)


def _rows_left_out(planned: Plan, store: Store) -> list[str]:
    """What is known of rows that were left out as they were read; `length_notes` tells of those
    that a training or an evaluation will not take."""
    stages = list(planned.data.values())
    records = {s.key: record for s in stages if (record := store.record(s)) is not None}
    return [
        f"data.{told.replace('/', '.', 1)}" for told in sentences(all_rows_used(stages, records))
    ]


def _code(planned: Plan) -> list[str]:
    """What of the suite executes: to be read before a stranger's suite is run."""
    found = executes(planned)
    if not found:
        return ["brings no code of its own: what runs are the packages that are installed here"]
    head = "would run, or reach, by the suite's word; read it before you run a stranger's suite:"
    return [head, *(f"  {told}" for told in found)]


def _formats(planned: Plan) -> list[str]:
    """What the memory above rests on, where a model is loaded in a short format."""
    trained = [s.config["model"]["dtype"] for s in planned.stages() if s.kind == "train"]
    return [
        f"{dtype}: what trains is float32 unless a method says otherwise, computed in {dtype}"
        for dtype in dict.fromkeys(trained)
        if dtype != "float32"
    ]


def _recipes(planned: Plan) -> list[str]:
    """Each training that goes on from others, and how many trainings sharing saves."""
    trained = {s.key: s for s in planned.stages() if s.kind == "train"}
    lines = []
    for stage in trained.values():
        before = [f"{source.label} ({role})" for role, source in stage.inputs.items()
                  if source.kind != "data"]  # fmt: skip
        if before:
            lines.append(f"{stage.label} goes on from {', '.join(before)}")
    alone = sum(s.kind == "train" for path in planned.paths for s in path.stages())
    if lines:
        lines.append(f"{len(trained)} trainings, each once; {alone} if nothing were shared")
    return lines


def _failed_trials(planned: Plan, store: Store) -> set[str]:
    """Stages of trials that have no good record; a selection that is done does not need them."""
    trials = planned.trial_keys()
    return {
        s.key
        for s in planned.stages()
        if s.key in trials and not ((record := store.record(s)) and record.ok)
    }


def _afterwards(planned: Plan) -> list[str]:
    """What is planned later, and why not now."""
    if not planned.open:
        return []
    lines = []
    for tuning in planned.tunings():
        asked = len(tuning.trials)
        if asked < tuning.total:
            lines.append(
                f"{tuning.group}: {asked} of {tuning.total} trials; the others are asked for once"
                " these have ended"
            )
    groups = list(dict.fromkeys(path.variant.group for path in planned.open))
    names = ", ".join(groups)
    head = f"planned once `select` has chosen their hyper-parameters ({len(planned.open)} variants)"
    return [*lines, f"{head}: {names}"]
