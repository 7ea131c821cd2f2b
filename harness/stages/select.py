"""The select stage: the best of a cell's trials, by their scores on validation rows.

It reads records of score stages and nothing else: no rows, no predictions, no checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict

from harness.core.errors import StageFailed
from harness.stages.base import Job, NotHashed, StageKind, folder_of
from harness.store.stage import SPEC, Record, Resources, read_record


class Tried(BaseModel):
    """A trial: the settings that were searched over, and the components that they make."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    set: dict[str, Any]
    """`component.field` -> value."""
    config: dict[str, Any]
    """Identity of the method and of the objective."""


class Select(StageKind):
    """The best of a cell's trials, by their scores on validation rows."""

    VERSION = 1
    reads = {"trial-*": "score"}
    tolerant = True

    metric: str
    higher_is_better: bool
    seeds: list[int]
    """Of each trial; its value is the mean over them."""
    trials: list[Tried]
    failed: Annotated[dict[str, str], NotHashed] = {}
    """Role of an input that failed -> the reason."""

    def resources(self, asked: Resources) -> Resources:
        return asked.without_gpu()

    @classmethod
    def headline(cls, record: Record) -> str:
        winner, trials = record.metrics["winner"], record.metrics["trials"]
        chosen = ", ".join(f"{name} {value}" for name, value in winner["set"].items())
        return f"trial {winner['number']} of {len(trials)}: {chosen}"

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Compare the trials; metrics hold each of them, and the winner's literal configuration.

        A failed trial keeps its reason and cannot win; of equal trials the first one wins.

        Raises:
            StageFailed: every trial failed.
        """
        with job.ledger.phase("select"):
            trials = [self._trial(job, i, tried) for i, tried in enumerate(self.trials, 1)]
        good = [trial for trial in trials if trial["status"] == "ok"]
        if not good:
            reasons = "\n".join(f"trial {trial['number']}: {trial['error']}" for trial in trials)
            raise StageFailed("no trial succeeded", f"all {len(trials)} trials failed\n{reasons}")
        sign = -1.0 if self.higher_is_better else 1.0
        best = min(good, key=lambda trial: (sign * trial["value"], trial["number"]))
        return {
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "seeds": self.seeds,
            "trials": trials,
            "winner": {**best, "config": self.trials[best["number"] - 1].config},
        }

    def _trial(self, job: Job[Self], number: int, tried: Tried) -> dict[str, Any]:
        outcome: dict[str, Any] = {"number": number, "set": tried.set, "status": "ok"}
        values, cost = [], {"seconds": 0.0, "tokens": 0.0, "steps": 0.0}
        for seed in self.seeds:
            role = f"trial-{number}-seed-{seed}"
            if role in self.failed:
                reason = self.failed[role].split("\n")[0]
                return {**outcome, "status": "failed", "error": reason}
            record = job.input_record(role)
            values.append(float(record.metrics["metrics"][self.metric]["value"]))
            for name, amount in _cost(job.folder.parents[1], record).items():
                cost[name] += amount
        return {**outcome, "value": sum(values) / len(values), "values": values, "cost": cost}


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
