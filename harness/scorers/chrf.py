"""chrF and chrF++."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from pydantic import Field

from harness.data.words import Words, words_by
from harness.scorers._sacrebleu import signature, statistics
from harness.scorers._words import WordScorer
from harness.scorers.base import Metric, Prediction


class Chrf(WordScorer):
    """Corpus chrF of 0 to 100 (Popovic, 2015, aclanthology.org/W15-3049), by sacrebleu (Post, 2018,
    aclanthology.org/W18-6319), whose signature the record holds; chrF++ with `word_order: 2`.

    Recall has twice the weight of precision. With several references the best one counts.
    """

    VERSION = 1
    needs_references = True

    char_order: int = Field(6, ge=1)
    """Longest character n-gram."""
    word_order: int = Field(0, ge=0)
    """Longest word n-gram; 2 is chrF++ (Popovic, 2017, aclanthology.org/W17-4770)."""
    lowercase: bool = False
    """Compare in lower case."""
    whitespace: bool = False
    """Count white space among the characters."""
    eps_smoothing: bool = False
    """Average the F scores of all orders, as chrF++.py, NLTK and Moses do. The default, as in
    sacrebleu, is the F score of average precision and average recall."""

    def words(self) -> Mapping[str, Words]:
        characters = words_by("char")
        if not self.word_order:
            return {"characters": characters}
        return {"white space": str.split, "word_order: 0": characters}

    def declared(self) -> Mapping[str, Metric]:
        aggregate = "chrf_smoothed" if self.eps_smoothing else "chrf"
        return {"chrf": Metric(aggregate, columns={c: f"chrf_{c}" for c in self._columns})}

    @property
    def _columns(self) -> list[str]:
        orders = range(1, self.char_order + self.word_order + 1)
        return [f"{name}_{k}" for k in orders for name in ("hyp", "ref", "match")]

    @cached_property
    def _metric(self) -> Any:
        from sacrebleu.metrics import CHRF

        return CHRF(
            char_order=self.char_order, word_order=self.word_order, lowercase=self.lowercase,
            whitespace=self.whitespace, eps_smoothing=self.eps_smoothing,
        )  # fmt: skip

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        predictions = list(predictions)
        self.look(predictions)
        names = [f"chrf_{column}" for column in self._columns]
        return [dict(zip(names, row, strict=True)) for row in statistics(self._metric, predictions)]

    def provenance(self) -> dict[str, Any]:
        return {**signature(self._metric), **super().provenance()}
