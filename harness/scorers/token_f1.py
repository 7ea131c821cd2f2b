"""Token F1."""

from __future__ import annotations

from collections import Counter

from harness.scorers._normalise import normalise
from harness.scorers.base import Metric, Prediction, Scorer


class TokenF1(Scorer):
    """F1 over the words shared with the best reference, as SQuAD's evaluation script computes it
    (Rajpurkar et al., 2016, arXiv:1606.05250)."""

    VERSION = 1
    metrics = {"token_f1": Metric()}

    def score(self, prediction: Prediction) -> dict[str, float]:
        return {"token_f1": max(_f1(prediction.text, r) for r in prediction.references)}


def _f1(answer: str, reference: str) -> float:
    given, wanted = normalise(answer).split(), normalise(reference).split()
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(given), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)
