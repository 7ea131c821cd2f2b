"""The suites that `make gpu-check` runs, and what is read from their records and reports."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_machine import ROOT

VERDICTS = ROOT / "tests" / "fixtures" / "demo_verdicts.csv"
COLUMNS = ("variant", "metric", "evaluation", "estimate", "difference_value", "verdict")
CELL_FAILED = 5
DEMO_SETTINGS = (
    "scorers=[{rouge: {data: tasks}}, {exact_match: {data: tasks, normalise: true}},"
    " {perplexity: {data: tasks}}, {perplexity: {data: general, label: forgetting}},"
    " {reward: {data: preferences}}, {kl: {data: general, to: start}}]",
    "claims=[]",
)
"""Scorers that need no package beside the harness's own, and no claim about the others."""


@dataclass(frozen=True)
class Run:
    """A suite that ran: its records, and the rows of its comparison over all examples.

    Attributes:
        status: None where it was stopped for lack of time.
    """

    status: int | None
    records: list[dict[str, Any]]
    rows: list[dict[str, str]]


@dataclass(frozen=True)
class Setting:
    """What every part is given.

    Attributes:
        device: `cuda`, or `cpu` to try the command. folder: of what a later call goes on from.
        suite, settings: as the command line has them.
    """

    device: str
    folder: Path
    suite: Path
    settings: tuple[str, ...]


_GUARDED = (
    'exec 3<&0; (read _ <&3; kill -9 0) & "$@" 3<&- </dev/null; status=$?; kill $!; exit $status'
)
"""Runs a command, and ends it with all that it started once its standard input is closed: in time,
or as the one who asked ends, by whatever signal."""


def call(command: Sequence[str], seconds: float, **given: str) -> int | None:
    """The command's exit status; None where it was stopped, as the seconds were over.

    Args:
        given: variables of its environment.
    """
    alive, held = os.pipe()
    process = subprocess.Popen(
        ["/bin/sh", "-c", _GUARDED, "sh", *command], cwd=ROOT, env={**os.environ, **given},
        stdin=alive, process_group=0,
    )  # fmt: skip
    os.close(alive)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        os.close(held)
        process.wait()


def run(suite: Path, name: str, setting: Setting, settings: Sequence[str], seconds: float) -> Run:
    """Run a suite, or go on with it; a failed cell is part of what is found."""
    folder = setting.folder / name
    records, report = folder / "records.jsonl", folder / "report"
    every = (*setting.settings, f"executor.local.device_class={setting.device}", *settings)
    command = [
        sys.executable, "-m", "harness.cli", "run", str(suite), "--store", str(folder / "store"),
        "--report-dir", str(report), "--records", str(records),
        *(part for value in every for part in ("--set", value)),
    ]  # fmt: skip
    shutil.rmtree(report, ignore_errors=True)
    status = call(command, seconds)
    if status not in (0, CELL_FAILED):
        return Run(status, [], [])
    found = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    table = report / "comparison.csv"
    rows: list[dict[str, str]] = []
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if not row["slice"]]
    return Run(status, found, rows)


def training(record: dict[str, Any], speeds: dict[str, float]) -> dict[str, Any]:
    """What one training took, or why it failed."""
    if record["status"] != "ok":
        return {"variant": record["label"], "error": record["error"]["message"]}
    cost = record["cost"]
    return {
        "variant": record["label"],
        "steps": record["metrics"]["steps"],
        "tokens": cost["tokens"],
        "train_tokens_per_second": cost["tokens"] / cost["phases"]["train"],
        "seconds_per_step": cost["seconds_per_step"],
        "mfu": cost.get("mfu"),
        "joules": cost.get("joules"),
        "phases": cost["phases"],
        "generate_tokens_per_second": speeds.get(record["label"]),
        "trainable_parameters": cost["trainable_parameters"],
        "state": cost["state"],
        "state_bytes": cost["state_bytes"],
        "peak_memory": cost["peak_memory"],
        "predicted": cost["predicted"],
        "versions": record["provenance"].get("versions", {}),
    }


def trainings(found: Run) -> list[dict[str, Any]]:
    """A line for each training stage and its answers."""
    speeds = {
        r["label"]: r["cost"]["tokens_per_second"]
        for r in found.records if r["kind"] == "generate" and r["status"] == "ok"
    }  # fmt: skip
    return [training(record, speeds) for record in found.records if record["kind"] == "train"]


def other_verdicts(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Rows whose verdict is not the CPU's, with both; and those that one side lacks."""

    def by_name(given: Sequence[dict[str, str]]) -> dict[tuple[str, ...], dict[str, str]]:
        return {tuple(row[name] for name in COLUMNS[:3]): row for row in given}

    with VERDICTS.open(encoding="utf-8", newline="") as handle:
        wanted = by_name(list(csv.DictReader(handle)))
    found, missing = by_name(rows), {"verdict": "missing", "estimate": "", "difference_value": ""}
    return [
        {"row": " ".join(name), "cpu": shown(one), "here": shown(other)}
        for name in wanted | found
        if (one := wanted.get(name, missing))["verdict"]
        != (other := found.get(name, missing))["verdict"]
    ]


def shown(row: dict[str, str]) -> str:
    """A verdict with the numbers behind it."""
    return f"{row['verdict']} ({row['estimate']}, {row['difference_value'] or 'no difference'})"


def keep_verdicts(table: Path) -> None:
    """Write what other devices are held against: a report's rows over all examples."""
    with table.open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if not row["slice"]]
    with VERDICTS.open("w", encoding="utf-8", newline="") as handle:
        kept = csv.DictWriter(handle, COLUMNS, extrasaction="ignore", lineterminator="\n")
        kept.writeheader()
        kept.writerows(rows)
