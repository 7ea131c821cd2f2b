"""Token F1."""

from __future__ import annotations

from harness.scorers._normalise import word_f1
from harness.scorers.base import Metric, Prediction, Scorer


class TokenF1(Scorer):
    """F1 over the words shared with the best reference, as SQuAD's evaluation script computes it
    (Rajpurkar et al., 2016, arXiv:1606.05250)."""

    VERSION = 1
    metrics = {"token_f1": Metric()}

    def score(self, prediction: Prediction) -> dict[str, float]:
        return {"token_f1": max(word_f1(prediction.text, r) for r in prediction.references)}
