"""Runs the stages of a plan, longest path first. Cached stages are skipped; if a stage fails, all
stages that need it are skipped too."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from harness.core.errors import HarnessError, StoreError, why
from harness.core.files import write_atomic
from harness.executors.base import Executor, Finished, Handle, Note, Progress, Session
from harness.scheduling.order import longest_path_first
from harness.store.kind import kind_of
from harness.store.stage import FAILED, SPEC, Record, Stage
from harness.store.store import Store

_POLL_SECONDS = 0.2
_NO_ROOM = {
    "reason": "not started",
    "message": "the executor has no room for what the stage needs, although nothing else runs; see"
    " `resources` and `executor` in the suite",
}


class Reporter(Protocol):
    """Receives a run's progress events; see harness.scheduling.progress."""

    def begin(self, pending: list[Stage], cached: int) -> None: ...

    def started(self, stage: Stage) -> None: ...

    def progress(self, stage: Stage, done: int, total: int, note: str) -> None: ...

    def note(self, stage: Stage, text: str) -> None: ...

    def finished(self, stage: Stage, record: Record) -> None: ...


Left = tuple[list[Stage], int]
"""The stages that a run has yet to run, and the number of those that it need not."""


class Starts(Protocol):
    """Starts sessions: an executor, or one that keeps its session."""

    def start(self, log: Path) -> Any: ...

    def room(self, stage: Stage, running: Collection[Stage]) -> bool: ...


class Kept:
    """An executor with one session for several executions, so that a worker imports torch once."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._session: Session | None = None

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session is not None:
            self._session.close()

    def start(self, log: Path) -> _Lent:
        """The session; it is started if there is none yet."""
        if self._session is None:
            self._session = self._executor.start(log)
        return _Lent(self._session)

    def room(self, stage: Stage, running: Collection[Stage]) -> bool:
        """Whether the executor has room for the stage now."""
        return self._executor.room(stage, running)


class _Lent(Session):
    """A session that its owner closes."""

    def __init__(self, session: Session) -> None:
        self.submit, self.wait = session.submit, session.wait  # type: ignore[method-assign]

    def close(self) -> None:
        pass


@dataclass
class Outcome:
    """The record of every stage, and the stages that this run ran."""

    records: dict[str, Record] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    trials: frozenset[str] = frozenset()
    """Keys of stages that only serve trials. A failed trial is a result of its tuning, and no
    failure of the run."""

    @property
    def failed(self) -> list[Record]:
        """Records of stages that failed or were skipped, except those of failed trials."""
        return [r for key, r in self.records.items() if not r.ok and key not in self.trials]


def pending(stages: Iterable[Stage], targets: Iterable[Stage], store: Store) -> list[Stage]:
    """The stages that must run so that every target has a record, in the order of `stages`.

    A stage whose outputs were removed by gc still counts as done, unless a stage that must run
    reads them.
    """
    needed: dict[str, Stage] = {}
    asked: set[tuple[str, bool]] = set()

    def need(stage: Stage, *, outputs: bool) -> None:
        if stage.key in needed or (stage.key, outputs) in asked:
            return
        asked.add((stage.key, outputs))
        if store.done(stage, outputs=outputs) is None:
            needed[stage.key] = stage
            for source in stage.inputs.values():
                need(source, outputs=True)

    for stage in targets:
        need(stage, outputs=False)
    return [stage for stage in stages if stage.key in needed]


def execute(
    stages: list[Stage],
    targets: list[Stage],
    executor: Starts,
    store: Store,
    reporter: Reporter,
    log: Path,
    earlier: Outcome | None = None,
    left: Left | None = None,
) -> Outcome:
    """Run what must run and return every stage's record.

    Args:
        earlier: the outcome of an earlier part of the same run; its failed stages are not tried
            again.
        left: what the whole run has left, if this is a part of it.

    Raises:
        StoreError: the store cannot be written.
        HarnessError: the executor cannot start.
    """
    outcome = Outcome(dict(earlier.records), list(earlier.ran)) if earlier else Outcome()
    failed = {key for key, record in outcome.records.items() if not record.ok}
    todo = [s for s in pending(stages, targets, store) if s.key not in failed]
    for stage in stages:
        record = store.record(stage)
        if record is not None and stage not in todo and stage.key not in failed:
            outcome.records[stage.key] = record
    reporter.begin(*(left or (todo, len(outcome.records))))
    if todo:
        session: Session = executor.start(log)
        try:
            _loop(todo, executor, session, store, reporter, outcome)
        finally:
            session.close()
    return outcome


def _loop(
    todo: list[Stage],
    executor: Starts,
    session: Session,
    store: Store,
    reporter: Reporter,
    outcome: Outcome,
) -> None:
    waiting = longest_path_first(todo)
    running: dict[Handle, Stage] = {}
    keys = {stage.key for stage in todo}
    while waiting or running:
        for stage in list(waiting):
            blocked = [s for s in stage.inputs.values() if s.key in keys]
            failed = _failed_inputs(stage, outcome.records)
            if failed and not kind_of(stage.kind).tolerant:
                waiting.remove(stage)
                _end(stage, _skipped(stage, failed), outcome, reporter)
            elif any(s.key not in outcome.records for s in blocked):
                continue
            elif executor.room(stage, running.values()):
                waiting.remove(stage)
                reporter.started(stage)
                try:
                    folder = _prepare(_told(stage, failed), store)
                    running[session.submit(folder, stage.resources)] = stage
                except (HarnessError, OSError) as error:
                    cause = {"reason": "not started", "message": why(error)}
                    _end(stage, _kept(stage, cause, store), outcome, reporter)
            elif not running:
                waiting.remove(stage)
                _end(stage, _kept(stage, _NO_ROOM, store), outcome, reporter)
        if not running:
            continue
        for event in session.wait(_POLL_SECONDS):
            if isinstance(event, Progress) and event.handle in running:
                stage = running[event.handle]
                reporter.progress(stage, event.done, event.total, event.note)
            elif isinstance(event, Note) and event.handle in running:
                reporter.note(running[event.handle], event.text)
            elif isinstance(event, Finished) and event.handle in running:
                stage = running.pop(event.handle)
                _end(stage, _collect(stage, event, store), outcome, reporter)


def _end(stage: Stage, record: Record, outcome: Outcome, reporter: Reporter) -> None:
    outcome.records[stage.key] = record
    outcome.ran.append(stage.key)
    reporter.finished(stage, record)


def _told(stage: Stage, failed: Mapping[str, Record]) -> Stage:
    """The stage with the reasons why inputs failed, for a kind that runs nevertheless."""
    if not failed:
        return stage
    reasons = {role: (record.error or {}).get("message", "") for role, record in failed.items()}
    return replace(stage, unhashed={**stage.unhashed, FAILED: reasons})


def _prepare(stage: Stage, store: Store) -> Path:
    """Make the stage's folder and write stage.json into it."""
    folder = stage.path(store.root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / SPEC, json.dumps(stage.spec(), indent=1) + "\n")
    except OSError as error:
        raise StoreError(
            f"cannot write {folder}: {why(error)}", fix="free space, or --store"
        ) from error
    return folder


def _collect(stage: Stage, event: Finished, store: Store) -> Record:
    """The record that the worker wrote, or one that says why there is none."""
    record = store.record(stage)
    if event.error is not None or record is None:
        error = event.error or {"reason": "no record", "message": "the worker left no record"}
        return _kept(stage, error, store)
    return record


def _kept(stage: Stage, error: Mapping[str, str], store: Store) -> Record:
    """The record of a failure for which the worker wrote none. It is also put into the store, for
    later reports."""
    record = _failed(stage, error, finished=time.time(), lost=True)
    store.keep_failure(stage, record)
    return record


def _failed(stage: Stage, error: Mapping[str, str], **provenance: Any) -> Record:
    return Record(
        key=stage.key,
        kind=stage.kind,
        label=stage.label,
        status="failed",
        config=dict(stage.config),
        provenance=provenance,
        error=dict(error),
    )


def with_skipped(stages: Iterable[Stage], records: Mapping[str, Record]) -> dict[str, Record]:
    """The records, and those that a run would add for stages that it skips because an input failed.

    Args:
        stages: each after its inputs.
    """
    ended = dict(records)
    for stage in stages:
        record, failed = ended.get(stage.key), _failed_inputs(stage, ended)
        if failed and not kind_of(stage.kind).tolerant and (record is None or not record.ok):
            ended[stage.key] = _skipped(stage, failed)
    return ended


def _failed_inputs(stage: Stage, records: Mapping[str, Record]) -> dict[str, Record]:
    """Role -> record of each input that failed or was skipped."""
    inputs = {role: records.get(source.key) for role, source in stage.inputs.items()}
    return {role: record for role, record in inputs.items() if record is not None and not record.ok}


def _skipped(stage: Stage, failed: Mapping[str, Record]) -> Record:
    """The record of a stage that was skipped. It names the stage that failed first, even if there
    are several stages in between."""
    cause = next(iter(failed.values()))
    error = cause.error or {}
    if error.get("skipped"):
        return _failed(stage, error)
    reason = f"not run, as its input {cause.kind} {cause.label} failed"
    first_line = error.get("message", "").split("\n")[0]
    return _failed(
        stage,
        {
            "reason": error.get("reason", "failed"),
            "message": f"{reason}: {first_line}",
            "skipped": reason,
        },
    )
