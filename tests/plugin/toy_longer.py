"""A scorer from outside the package that asks for the baseline's answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import Scorer
from harness.scorers.base import SHARE, Asked, Metric, ScoreJob, Subject


class Longer(Scorer):
    """Share of the prompts to which the answer is longer than the baseline's, half for a tie."""

    metrics = {"longer": Metric(bounds=SHARE, even=0.5)}

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        return {"answers": of.answers(), "baseline": of.baseline().answers()}

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        pairs = zip(job.answers(), job.answers("baseline"), strict=True)
        signs = [(len(a.text) > len(b.text)) - (len(a.text) < len(b.text)) for a, b in pairs]
        return [{"longer": 0.5 + 0.5 * sign} for sign in signs]
