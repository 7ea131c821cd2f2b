"""A scorer from outside the package."""

from __future__ import annotations

from harness import Scorer
from harness.scorers.base import Metric, Prediction


class Length(Scorer):
    """Characters of the answer."""

    metrics = {"length": Metric(unit="characters")}

    def score(self, prediction: Prediction) -> dict[str, float]:
        return {"length": float(len(prediction.text))}
