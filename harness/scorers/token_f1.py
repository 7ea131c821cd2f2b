"""Token F1."""

from __future__ import annotations

from collections.abc import Iterable

from harness.scorers._normalise import bare, word_f1
from harness.scorers._words import TokenizedScorer
from harness.scorers.base import SHARE, Metric, Prediction


class TokenF1(TokenizedScorer):
    """F1 over the words shared with the best reference, as SQuAD's evaluation script computes it
    (Rajpurkar et al., 2016, arXiv:1606.05250)."""

    VERSION = 1
    needs_references = True
    metrics = {"token_f1": Metric(bounds=SHARE)}

    def look(self, predictions: Iterable[Prediction]) -> None:
        predictions = list(predictions)
        super().look(predictions)
        if notes := bare([reference for p in predictions for reference in p.references]):
            self._seen["notes"] = [*self._seen.get("notes", ()), *notes]

    def score(self, prediction: Prediction) -> dict[str, float]:
        answer, references = prediction.text, prediction.references
        return {"token_f1": max(word_f1(answer, r, self.cut) for r in references)}
