"""Opens a suite for a command: loads and plans it, with its store. Nothing is run here."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.commands.stored_baselines import require_baselines
from harness.core.errors import HarnessError, SuiteError
from harness.core.locate import STORE
from harness.planning.changed import changed_targets
from harness.planning.code import unset_keys
from harness.planning.contamination import same_rows
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
        only: the pattern of variants to keep.
        limit: the number of rows to keep of every split.
        seconds: wall-clock seconds of this run, by part.
        command: the command as it was typed, which makes the report again.
        settings: the changes to the suite by `--set`.
        first: the stages that ran before the plan was complete: they read and measure rows.
        earlier: the records of an earlier run, by key, if only what changed since is to run.
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
    earlier: Mapping[str, Record] | None = None

    def plan_again(self, records: Mapping[str, Record] | None = None) -> None:
        """Plan what these records, of this run, have made known."""
        known = {**(self.earlier or {}), **(records or {})}
        self.plan = plan(self.loaded, self.store, self.only, self.limit, known)

    def targets(self) -> list[Stage]:
        """The stages that a run must bring to an end."""
        if self.earlier is None:
            return list(self.plan.targets())
        return changed_targets(self.plan, self.earlier)


def open_suite(
    name: str,
    settings: Sequence[str],
    store: Path,
    only: str | None,
    limit: int | None,
    *,
    ended: bool = False,
) -> Opened:
    """Load and plan a suite.

    Args:
        settings: changes to the suite, each as `KEY=VALUE`.
        only: the pattern of variants to keep.
        limit: the number of rows to keep of every split.
        ended: plan what the last run ended with, to report it: trials that failed stay failed.

    Raises:
        HarnessError: the suite or an argument has a mistake, or this machine cannot run the suite.
    """
    _refuse_arguments(settings, only, limit)
    loaded = load_suite(name, settings)
    opened_store = Store(store)
    planned = plan(loaded, opened_store, only, limit, opened_store.failures() if ended else None)
    if not ended:
        with loaded.boundary():
            _refuse_machine(planned)
            require_baselines(planned)
    return Opened(loaded, opened_store, planned, only, limit, settings=tuple(settings))


def _refuse_arguments(settings: object, only: object, limit: object) -> None:
    """Refuse arguments of a wrong kind, as a script may have them. What settings say is not shown:
    a secret may have been pasted there."""
    strings = isinstance(settings, list | tuple) and all(isinstance(s, str) for s in settings)
    if not strings:
        raise HarnessError(
            f"settings is a list of strings, and not this {type(settings).__name__}",
            fix='settings=["sft.learning_rate=1e-3", "seeds=[0,1]"]',
        )
    if only is not None and not isinstance(only, str):
        raise HarnessError(f"only is a pattern such as 'lora*', not {only!r}")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise HarnessError(f"limit is a number of rows, 1 or more, not {limit!r}")


def _refuse_machine(planned: Plan) -> None:
    """Refuse to run a suite that this machine cannot run; its report can still be made here."""
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
    """The folder of the cached stages: this one, else that of HARNESS_STORE, else the default."""
    return Path(folder or os.environ.get("HARNESS_STORE") or STORE)


def records_of(stages: Iterable[Stage], store: Store) -> dict[str, Record]:
    """The records of these stages that are in the store, by key."""
    return {s.key: record for s in stages if (record := store.record(s)) is not None}


def refuse_bad_data(outcome: Outcome) -> None:
    """Raise the errors of the data stages, if any failed.

    Raises:
        SuiteError: the data cannot be used as the suite asks.
    """
    causes = [r.error for r in outcome.failed if r.error and not r.error.get("skipped")]
    messages = [error.get("message", "") for error in causes]
    if messages:
        raise SuiteError("\n".join(dict.fromkeys(messages)))


def warn_of_mistakes(planned: Plan) -> None:
    """Print the plan's warnings, where a person can still change the suite: before a run. The
    report has them too, so that the commands after a run do not repeat them; all but those on keys,
    which are about this environment."""
    for warning in (*same_rows(planned), *planned.warnings, *unset_keys(planned)):
        print(f"warning: {warning}", file=sys.stderr)


def warn_of_changed_code(records: Mapping[str, Record]) -> None:
    """Warn if records were made by other code than the current one."""
    if warning := changed_since(records.values()):
        print(f"warning: {warning}", file=sys.stderr)


def run_command(opened: Opened) -> str:
    """The command line that runs this suite with the same options."""
    root, here = opened.store.root, Path.cwd()
    store = root.relative_to(here) if root.is_relative_to(here) else root
    words = ["harness", "run", str(opened.loaded.path), "--store", str(store)]
    words += [word for setting in opened.settings for word in ("--set", setting)]
    for option, value in (("--only", opened.only), ("--limit", opened.limit)):
        words += [] if value is None else [option, str(value)]
    return shlex.join(words)
