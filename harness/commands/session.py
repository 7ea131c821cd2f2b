"""A suite that is opened: loaded, planned, with its store. Nothing runs here."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.errors import HarnessError, SuiteError
from harness.core.locate import STORE
from harness.planning.planner import Plan, plan
from harness.planning.trackers import refuse_trackers
from harness.scheduling.schedule import Outcome
from harness.store.made_by import changed_since
from harness.store.stage import Record, Stage
from harness.store.store import Store
from harness.suite.suite import Loaded, load_suite


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
        settings: changes to the suite, each as `KEY=VALUE`.
        only: pattern of variants to keep. limit: rows of every split to keep.
        ended: plan as the last run ended, to report it: a trial that it lost has failed.

    Raises:
        HarnessError: naming what cannot be meant, and the fix.
    """
    _refuse_arguments(settings, limit)
    loaded = load_suite(name, settings)
    opened_store = Store(store)
    planned = plan(loaded, opened_store, only, limit, opened_store.failures() if ended else None)
    if not ended:
        with loaded.boundary():
            _refuse_machine(planned)
    for warning in planned.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return Opened(loaded, opened_store, planned, only, limit, settings=tuple(settings))


def _refuse_arguments(settings: Sequence[str], limit: int | None) -> None:
    if isinstance(settings, str):
        raise HarnessError(f"settings is a list of texts, not the text {settings!r}",
                           fix=f"settings=[{settings!r}]")  # fmt: skip
    if limit is not None and limit < 1:
        raise HarnessError(f"limit is a number of rows, 1 or more, not {limit}")


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


def store_at(folder: str | Path | None) -> Path:
    """The folder of the cached stages: as named, or as HARNESS_STORE says, else the default."""
    return Path(folder or os.environ.get("HARNESS_STORE") or STORE)


def records_of(stages: Iterable[Stage], store: Store) -> dict[str, Record]:
    """The records that the store holds of these stages, by key."""
    return {s.key: record for s in stages if (record := store.record(s)) is not None}


def refuse_bad_data(outcome: Outcome) -> None:
    """Raise what stages that read rows have failed with.

    Raises:
        SuiteError: the data cannot be used as the suite wants.
    """
    causes = [r.error for r in outcome.failed if r.error and not r.error.get("skipped")]
    messages = [error.get("message", "") for error in causes]
    if messages:
        raise SuiteError("\n".join(dict.fromkeys(messages)))


def warn_of_changed_code(records: Mapping[str, Record]) -> None:
    """Say which records were made by other code than there is now."""
    if warning := changed_since(records.values()):
        print(f"warning: {warning}", file=sys.stderr)


def run_command(opened: Opened) -> str:
    """The command that runs just this suite, into this store."""
    words = ["harness", "run", str(opened.loaded.path), "--store", str(opened.store.root)]
    words += [word for setting in opened.settings for word in ("--set", setting)]
    for option, value in (("--only", opened.only), ("--limit", opened.limit)):
        words += [] if value is None else [option, str(value)]
    return shlex.join(words)
