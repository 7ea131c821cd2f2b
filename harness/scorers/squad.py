"""SQuAD's exact match and F1."""

from __future__ import annotations

from collections.abc import Iterable

from harness.scorers._normalise import bare, normalise, word_f1
from harness.scorers._words import TokenizedScorer
from harness.scorers.base import SHARE, Metric, Prediction


class Squad(TokenizedScorer):
    """Exact match and word F1 after SQuAD's normalisation (lower case, no punctuation or articles),
    each with the best reference, as shares of 1 (Rajpurkar et al., 2016, arXiv:1606.05250).

    If nothing is left of an answer after normalisation, both are 1 if nothing is left of the
    reference either, else 0, as in the script of SQuAD 2.0 (arXiv:1806.03822). The script of 1.1
    only differs here: its F1 is then 0. Questions without an answer have an empty reference.
    """

    VERSION = 1
    needs_references = True
    metrics = {"squad_exact": Metric(bounds=SHARE), "squad_f1": Metric(bounds=SHARE)}

    def look(self, predictions: Iterable[Prediction]) -> None:
        predictions = list(predictions)
        super().look(predictions)
        if notes := bare([reference for p in predictions for reference in p.references]):
            self._seen["notes"] = [*self._seen.get("notes", ()), *notes]

    def score(self, prediction: Prediction) -> dict[str, float]:
        answer = normalise(prediction.text)
        return {
            "squad_exact": float(any(normalise(r) == answer for r in prediction.references)),
            "squad_f1": max(word_f1(prediction.text, r, self.cut) for r in prediction.references),
        }
