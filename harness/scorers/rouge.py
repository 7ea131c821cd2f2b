"""ROUGE."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from harness.scorers.base import Metric, Prediction, Scorer

TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class Rouge(Scorer):
    """ROUGE-1, -2, -L and -Lsum F1 (Lin, 2004, aclanthology.org/W04-1013), by rouge-score.

    With several references each type takes its best one by F1, as rouge-score's score_multi does.
    rougeLsum splits sentences at newlines.
    """

    VERSION = 1
    metrics = {name: Metric() for name in TYPES}

    use_stemmer: bool = True
    """Porter stemming, as in most published summarisation figures."""

    @cached_property
    def _scorer(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer(list(TYPES), use_stemmer=self.use_stemmer)

    def score(self, prediction: Prediction) -> dict[str, float]:
        found = self._scorer.score_multi(list(prediction.references), prediction.text)
        return {name: found[name].fmeasure for name in TYPES}

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        # Equal pairs are common (short answers), and a score is a function of the pair.
        known: dict[tuple[str, tuple[str, ...]], dict[str, float]] = {}
        scores = []
        for prediction in predictions:
            pair = (prediction.text, prediction.references)
            if pair not in known:
                known[pair] = self.score(prediction)
            scores.append(known[pair])
        return scores
