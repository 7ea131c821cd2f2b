"""`harness plan`, and the same from Python: lists the stages of a suite and what they will cost."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.session import Opened, open_suite, store_at, warn_of_mistakes
from harness.core.text import number_of
from harness.planning.checks import Misses, length_notes, script_notes
from harness.planning.code import executes
from harness.planning.heads import require_rows
from harness.planning.planner import Plan
from harness.planning.shortfalls import shortfalls
from harness.planning.unanswered import benchmarks, unanswered
from harness.scheduling.schedule import pending
from harness.store.kind import kind_of
from harness.store.rows_used import all_rows_used, sentences
from harness.store.stage import Stage
from harness.store.store import Store

if TYPE_CHECKING:  # the command need not wait for it
    import pandas as pd


def plan(
    suite: str | Path,
    *,
    only: str | None = None,
    limit: int | None = None,
    settings: Sequence[str] = (),
    store: str | Path | None = None,
) -> pd.DataFrame:
    """List the stages of a suite without running them: `harness plan` from Python.

        stages = harness.plan("suite.yaml")
        print(stages[stages.state == "to run"].groupby("kind").expected_seconds.sum())

    Warnings go to stderr.

    Args:
        suite: a YAML file, or a suite of the package such as `pocket/demo`.
        only, limit, settings, store: as in `harness.run`.

    Returns:
        A row for each stage, with the columns `state` (`to run`, `cached`, or `failed` for a trial
        that need not run again), `kind`, `label`, `expected_seconds` (NaN until a stage like it was
        measured), `state_bytes` (weights, gradients, optimizer and kept activations; NaN for a
        stage without them) and `key` (the stage's identity; the name of its folder in the store
        begins with it).

    Raises:
        HarnessError: the suite has a mistake, or its rows cannot be used for what it asks of them.
    """
    import pandas as pd

    opened = open_suite(str(suite), settings, store_at(store), only, limit)
    warn_of_mistakes(opened.plan)
    _require(opened)
    rows = [
        (
            planned.state, planned.stage.kind, planned.stage.label, planned.stage.expected_seconds,
            planned.stage.predicted.get("state_bytes"), planned.stage.key,
        )
        for planned in _stages(opened.plan, opened.store)
    ]  # fmt: skip
    columns = ["state", "kind", "label", "expected_seconds", "state_bytes", "key"]
    numbers = {"expected_seconds": float, "state_bytes": float}
    return pd.DataFrame(rows, columns=columns).astype(numbers)


def describe_plan(opened: Opened, *, why: bool) -> str:
    """The stages as text for the terminal: state, expected time and memory.

    Args:
        why: for each stage to run, also say what differs from a cached one.

    Raises:
        HarnessError: rows cannot be used for what the suite asks of them.
    """
    short = [f"note: {told}" for told in _require(opened)]
    return "\n".join([table(opened.plan, opened.store, why=why), *short])


def _require(opened: Opened) -> Iterable[str]:
    """Refuse rows that a run would refuse, as far as they are known before they are read.

    Returns:
        Sentences on splits of which less is left than the suite seems to ask for.
    """
    looked = require_rows(opened.plan, opened.store)
    if looked.warning:
        print(f"warning: {looked.warning}", file=sys.stderr)
    return list(shortfalls(opened.plan, looked.counts))


@dataclass(frozen=True)
class _Planned:
    """A stage of the plan. Its state is `to run`, `cached` or `failed`."""

    stage: Stage
    state: str

    @property
    def seconds_unknown(self) -> bool:
        """Whether the stage may take long, and no stage like it was measured."""
        return kind_of(self.stage.kind).long and self.stage.expected_seconds is None

    @property
    def trains(self) -> bool:
        """Whether a model is trained here."""
        return self.stage.kind == "train"

    def line(self, width: int) -> str:
        """The stage's line in the table; its label takes so many characters."""
        seconds, memory = self.stage.expected_seconds, self.stage.predicted.get("state_bytes")
        expected = "unknown" if self.seconds_unknown else ""
        expected = expected if seconds is None else f"{seconds:.0f} s"
        state = "unknown" if self.trains else ""
        state = state if memory is None else f"{memory / 2**20:.1f} MiB"
        return (
            f"{self.state:<8} {self.stage.kind:<14} {self.stage.label:<{width}} {expected:>10}"
            f" {state:>13}"
        ).rstrip()


def _stages(planned: Plan, store: Store) -> list[_Planned]:
    """All stages that a run goes through, with their states, in topological order: those that
    read and measure rows first."""
    ground = planned.groundwork()
    stages = list({stage.key: stage for stage in (*ground, *planned.stages())}.values())
    waiting = {stage.key for stage in pending(stages, [*ground, *planned.targets()], store)}
    idle = _failed_trials(planned, store) - waiting
    return [
        _Planned(s, "to run" if s.key in waiting else "failed" if s.key in idle else "cached")
        for s in stages
    ]


def table(planned: Plan, store: Store, *, why: bool) -> str:
    """As describe_plan, without its check of the lengths of rows."""
    stages = _stages(planned, store)
    waiting = [each for each in stages if each.state == "to run"]
    lines = [
        f"{planned.suite.name}: {number_of(len(planned.paths), 'variant')}, baseline"
        f" {planned.baseline}"
    ]
    width = max([len("for"), *(len(each.stage.label) for each in stages)])
    heads = f"{'for':<{width}} {'expected':>10} {'state memory':>13}"
    lines.append(f"{'state':<8} {'stage':<14} {heads}")
    lines += [each.line(width) for each in stages]
    total = sum(each.stage.expected_seconds or 0.0 for each in waiting)
    expected = f"; about {total:.0f} s expected for those with a formula" if total else ""
    cached = sum(each.state == "cached" for each in stages)
    lines.append(f"{len(waiting)} to run, {cached} cached{expected}")
    lines += _services(waiting)
    lines += _formats(planned)
    lines += _recipes(planned)
    lines += _afterwards(planned)
    lines += _claims(planned, store)
    if unmeasured := sum(each.seconds_unknown for each in waiting):
        lines.append(
            f"the time of {unmeasured} of them is unknown until measured: such a stage has not run"
            " with a model of about this size on this class of device, or its rows are not read"
            f" yet; `harness run {planned.file} --limit 8` would measure it in a short run"
        )
    lines += _memory(planned, stages, store)
    lines += _rows_left_out(planned, store)
    lines += length_notes(planned)
    lines += script_notes(planned, store)
    lines += benchmarks(planned)
    lines += [f"not answered: {question}" for question in unanswered(planned)]
    lines += _code(planned)
    return "\n".join([*lines, *(_reasons((each.stage for each in waiting), store) if why else ())])


def _reasons(stages: Iterable[Stage], store: Store) -> list[str]:
    """For each stage, how it differs from the cached stages, so that none of them can be used."""
    lines: list[str] = []
    misses = Misses(store.query(status="ok"))
    for stage in stages:
        lines.append(f"\n{stage.kind} {stage.label} ({stage.key[:12]}) is not cached:")
        lines += [f"  {reason}" for reason in misses.explain(stage)]
    return lines


def _rows_left_out(planned: Plan, store: Store) -> list[str]:
    """Notes on rows that were left out when they were read.

    `length_notes` has those that a training or an evaluation leaves out because of their length.
    """
    stages = list(planned.data.values())
    records = {s.key: record for s in stages if (record := store.record(s)) is not None}
    notes = sentences(all_rows_used(stages, records))
    return [f"data.{note.replace('/', '.', 1)}" for note in notes]


def _code(planned: Plan) -> list[str]:
    """The code that the suite would run and the places that it would reach."""
    reached = executes(planned)
    if not reached:
        return ["brings no code of its own: only packages that are installed here would run"]
    head = "would run or reach the following; read it before you run a suite that you do not trust:"
    return [head, *(f"  {entry}" for entry in reached)]


def _memory(planned: Plan, stages: Sequence[_Planned], store: Store) -> list[str]:
    """What the memory of trainings in the table is of, and what is not known of it."""
    trained = [each.stage for each in stages if each.trains]
    unread = pending(planned.lengths, planned.lengths, store)
    lines = ["which rows fit is unknown until the data stages have run"] if unread else []
    if any("state_bytes" in stage.predicted for stage in trained):
        told = (
            "what it keeps of the rows is not in it yet, as they are not read or measured"
            if unread
            else "of rows drawn at random, the longest is the expected one"
        )
        lines.append(f"state memory is that of a training's first step; {told}")
    if missing := sum("state_bytes" not in stage.predicted for stage in trained):
        lines.append(
            f"the state memory of {number_of(missing, 'training')} is unknown: there is no formula"
            " for pairs, rewards and rollouts, nor for methods at a service or models of unknown"
            " shapes"
        )
    return lines


def _services(waiting: Sequence[_Planned]) -> list[str]:
    """The calls of other servers that are expected, with their tokens and money where known."""
    asked = [each.stage.predicted for each in waiting if "calls" in each.stage.predicted]
    if not asked:
        return []
    calls, tokens, money = (
        sum(cost.get(name, 0.0) for cost in asked) for name in ("calls", "tokens", "money")
    )
    about = f"; about {number_of(round(tokens), 'token')}" if tokens else ""
    paid = f", {money:.2g} in money" if money else ""
    asked_for = number_of(round(calls), "call")
    return [f"{asked_for} of other servers{about}{paid}; replies that are kept cost nothing"]


def _formats(planned: Plan) -> list[str]:
    """The number formats that the memory in the table assumes, for models not in float32."""
    trained = [s.config["model"]["dtype"] for s in planned.stages() if s.kind == "train"]
    return [
        f"{dtype}: what trains is float32 unless a method says otherwise, computed in {dtype}"
        for dtype in dict.fromkeys(trained)
        if dtype != "float32"
    ]


def _recipes(planned: Plan) -> list[str]:
    """A line for each training with other stages before it, and how many trainings are shared."""
    trained = {s.key: s for s in planned.stages() if s.kind == "train"}
    lines = []
    for stage in trained.values():
        before = [f"{source.label} ({role})" for role, source in stage.inputs.items()
                  if source.kind != "data"]  # fmt: skip
        if before:
            lines.append(f"{stage.label} goes on from {', '.join(before)}")
    alone = sum(s.kind == "train" for path in planned.paths for s in path.stages())
    if lines:
        lines.append(
            f"{number_of(len(trained), 'training')}, each once; {alone} if nothing were shared"
        )
    return lines


def _claims(planned: Plan, store: Store) -> list[str]:
    """For each claim, what the data could show of it, and how many examples would do."""
    if not planned.claims:
        return []
    # They take a second to import, which the plan of a suite without claims need not wait for.
    from harness.comparison.planned_power import powers as powers_of

    powers = powers_of(planned, store)
    head = (
        f"{number_of(len(planned.claims), 'claim, with', 'claims, each with')} the"
        " smallest difference that 80% of such experiments would show at its confidence"
        " (the adjustment over all of them asks for more):"
    )
    lines = [head]
    lines += [f"  {each.text()}" for each in powers]
    counted = len(planned.claims) - len(powers)
    return [*lines, *([f"  {counted} about costs, which are not estimated"] if counted else [])]


def _failed_trials(planned: Plan, store: Store) -> set[str]:
    """Keys of stages of trials that did not succeed; a finished selection does not need them."""
    trials = planned.trial_keys()
    return {
        s.key
        for s in planned.stages()
        if s.key in trials and not ((record := store.record(s)) and record.ok)
    }


def _afterwards(planned: Plan) -> list[str]:
    """The trials and variants that can be planned only after others have ended."""
    if not planned.open:
        return []
    lines = []
    for tuning in planned.tunings():
        asked = len(tuning.trials)
        if asked < tuning.total:
            lines.append(
                f"{tuning.group}: {asked} of {number_of(tuning.total, 'trial')}; the"
                " others are asked for once"
                " these have ended"
            )
    groups = list(dict.fromkeys(path.variant.group for path in planned.open))
    names = ", ".join(groups)
    head = (
        "planned once `select` has chosen their hyper-parameters"
        f" ({number_of(len(planned.open), 'variant')})"
    )
    return [*lines, f"{head}: {names}"]
