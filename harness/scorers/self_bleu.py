"""How alike the samples of one prompt are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from harness.data.words import Words
from harness.scorers._words import SacrebleuName, WordScorer, named
from harness.scorers.base import Metric, Prediction


class SelfBleu(WordScorer):
    """Self-BLEU (Zhu et al., 2018, arXiv:1802.01886) over the samples of each prompt: the mean BLEU
    of each sample with the other samples of its prompt as references, from 0 to 100. The higher it
    is, the more alike the samples are. Fine-tuning makes answers less diverse, and this shows it.

    BLEU is sacrebleu's sentence score (effective order, exponential smoothing). The metric needs
    `generate: {samples: 4}`, and rises with the number of samples: compare only equal numbers. Two
    empty samples are alike (100).
    """

    VERSION = 1
    metrics = {"self_bleu": Metric(higher_is_better=False, bounds=(0.0, 100.0))}

    max_order: int = Field(4, gt=0)
    """Longest n-gram."""
    tokenize: SacrebleuName = "13a"
    """sacrebleu's tokenizer; for scripts without spaces `zh` (Chinese), `ja-mecab` (Japanese) or
    `char` (any)."""

    def words(self) -> Mapping[str, Words]:
        return named("tokenize", self.tokenize, "zh", "char")

    def shows(self) -> str:
        return "diversity"

    def samples_needed(self) -> int:
        return 2

    def score(self, prediction: Prediction) -> dict[str, float]:
        metric, samples = self._metric(), prediction.samples
        scores = [
            _likeness(metric, sample, [*samples[:i], *samples[i + 1 :]])
            for i, sample in enumerate(samples)
        ]
        return {"self_bleu": sum(scores) / len(scores)}

    def _metric(self) -> Any:
        from sacrebleu.metrics import BLEU

        return BLEU(tokenize=self.tokenize, max_ngram_order=self.max_order, effective_order=True)


def _likeness(metric: Any, sample: str, others: list[str]) -> float:
    if not sample.strip():
        return 100.0 if any(not other.strip() for other in others) else 0.0
    return float(metric.sentence_score(sample, others).score)
