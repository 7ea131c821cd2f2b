"""Rejection sampling from outside the package: an objective and the kind of stage that it needs."""

from __future__ import annotations

from typing import Any, Self

from harness import Objective, StageKind
from harness.stages.base import Job
from harness.stages.data import read_rows, write_rows


class BestAnswers(StageKind):
    """The answers that a labeller ranked first, as conversations to train on."""

    reads = {"labels": "label"}

    def run(self, job: Job[Self]) -> dict[str, Any]:
        return write_rows(job.folder, [_best(row) for row in read_rows(job.input("labels"))])


def _best(row: dict[str, Any]) -> dict[str, Any]:
    answer = row["responses"][row["ranks"].index(1)]
    kept = {name: row[name] for name in ("id", "cluster", "group")}
    return {**kept, "messages": [*row["prompt"], *answer], "references": []}


class BestOf(Objective):
    """SFT on the better ones of the answers of its start, by default of the model as it is."""

    layouts = ("messages", "preference")

    labeller: Any = "longest"
    """Who says which answer is better."""

    def recipe(self, r: Any) -> Any:
        policy = r.start(self)
        answers = r.sample(
            policy, samples=3, prompts=None, temperature=1.0, top_p=1.0, max_new_tokens=4,
            batch_tokens=1024,
        )  # fmt: skip
        labels = r.label(answers, by=self.labeller, unfinished="keep", tie=0.0)
        best = r.stage("best_answers", reads={"labels": labels})
        return r.train("sft", start=policy, rows=best)
