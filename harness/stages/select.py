"""The select stage: the best of a cell's trials, by their scores on validation rows.

It reads records of score stages and nothing else: no rows, no predictions, no checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.core.errors import StageFailed
from harness.stages.base import Job, folder_of
from harness.store.stage import FAILED, SPEC, Record, read_record


def run(job: Job) -> dict[str, Any]:
    """Compare the trials; metrics hold each of them, and the winner's literal configuration.

    A failed trial keeps its reason and cannot win; of equal trials the first one wins.

    Raises:
        StageFailed: every trial failed.
    """
    reasons = json.loads(job.locators.get(FAILED, "{}"))
    with job.ledger.phase("select"):
        trials = [
            _trial(job, number, tried, reasons)
            for number, tried in enumerate(job.config["trials"], 1)
        ]
    good = [trial for trial in trials if trial["status"] == "ok"]
    if not good:
        told = "\n".join(f"trial {trial['number']}: {trial['error']}" for trial in trials)
        raise StageFailed("no trial succeeded", f"all {len(trials)} trials failed\n{told}")
    sign = -1.0 if job.config["higher_is_better"] else 1.0
    best = min(good, key=lambda trial: (sign * trial["value"], trial["number"]))
    config = job.config["trials"][best["number"] - 1]["config"]
    return {
        "metric": job.config["metric"],
        "higher_is_better": job.config["higher_is_better"],
        "seeds": job.config["seeds"],
        "trials": trials,
        "winner": {**best, "config": config},
    }


def _trial(job: Job, number: int, tried: dict[str, Any], reasons: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"number": number, "set": tried["set"], "status": "ok"}
    values, cost = [], {"seconds": 0.0, "tokens": 0.0, "steps": 0.0}
    for seed in job.config["seeds"]:
        role = f"trial-{number}-seed-{seed}"
        if role in reasons:
            return {**found, "status": "failed", "error": reasons[role].split("\n")[0]}
        record = job.input_record(role)
        values.append(float(record.metrics["metrics"][job.config["metric"]]["value"]))
        for name, amount in _cost(job.folder.parents[1], record).items():
            cost[name] += amount
    return {**found, "value": sum(values) / len(values), "values": values, "cost": cost}


def _cost(root: Path, record: Record) -> dict[str, float]:
    """Training seconds, tokens and steps behind a score, from the records along its path."""
    trained = _trained(root, folder_of(root, record.kind, record.key))
    if trained is None:
        return {}
    return {
        "seconds": float(trained.cost["phases"]["train"]),
        "tokens": float(trained.cost["tokens"]),
        "steps": float(trained.metrics["steps"]),
    }


def _trained(root: Path, folder: Path) -> Record | None:
    spec = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    if spec["kind"] == "train":
        return read_record(folder)
    for source in spec["inputs"].values():
        if source["kind"] != "data":
            return _trained(root, folder_of(root, source["kind"], source["key"]))
    return None
