"""Diversity of the outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field, field_validator

from harness.scorers._words import TokenizedScorer
from harness.scorers.base import Metric, Prediction


class Distinct(TokenizedScorer):
    """distinct-n: different word n-grams over all n-grams of the outputs together (Li et al., 2016,
    arXiv:1510.03055). Fine-tuning narrows answers, and this is where it shows.

    The number falls as a set grows: compare it only between outputs for the same prompts. An n-gram
    said c times gives 1/c to each example that says it, so that the examples' sums are the corpus
    figure; its interval holds these shares fixed. In the tables by family, an n-gram that another
    family says too counts in part, so that a family alone would have a higher figure. Self-BLEU
    needs several samples of one prompt, and is not made of greedy outputs.
    """

    VERSION = 1

    orders: list[int] = Field([1, 2], min_length=1)
    """Lengths n of the n-grams, one metric each."""
    lowercase: bool = True
    """Count words in lower case."""
    over: Literal["outputs", "samples"] = "outputs"
    """`samples`: within the samples of each prompt (`generate: {samples: 4}`)."""

    @field_validator("orders")
    @classmethod
    def _positive(cls, value: list[int]) -> list[int]:
        if min(value) < 1 or len(set(value)) < len(value):
            raise ValueError(f"orders must be different numbers from 1 on: {value}")
        return value

    def shows(self) -> str:
        return "diversity"

    def samples_needed(self) -> int:
        return 2 if self.over == "samples" else 0

    def _name(self, n: int) -> str:
        return f"sample_distinct_{n}" if self.over == "samples" else f"distinct_{n}"

    def declared(self) -> Mapping[str, Metric]:
        names = [self._name(n) for n in self.orders]
        return {
            name: Metric(
                "ratio", columns={"numerator": f"{name}_new", "denominator": f"{name}_all"}
            )
            for name in names
        }

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        """As declared; over samples every prompt is a corpus of its own."""
        predictions = list(predictions)
        self.look(predictions)
        if self.over == "samples":
            return self._told([self._within(prediction.samples) for prediction in predictions])
        texts = [self._cut(p.text) for p in predictions]
        rows: list[dict[str, float]] = [{} for _ in texts]
        for n in self.orders:
            grams = [_grams(own, n) for own in texts]
            said = Counter(gram for own in grams for gram in own)
            for row, own in zip(rows, grams, strict=True):
                row[f"{self._name(n)}_new"] = sum(1 / said[gram] for gram in own)
                row[f"{self._name(n)}_all"] = float(len(own))
        return self._told(rows)

    def _told(self, rows: list[dict[str, float]]) -> list[dict[str, float]]:
        """The rows; remember where answers are too short for an n-gram: a 0 is then no collapse."""
        none = [n for n in self.orders if not any(row[f"{self._name(n)}_all"] for row in rows)]
        if none:
            names = ", ".join(map(self._name, none))
            told = (
                f"no answer is long enough for {names} (tokenize: {self.tokenize}): 0 says nothing"
                " of diversity there"
            )
            self._seen["answer_notes"] = [*self._seen.get("answer_notes", ()), told]
        return rows

    def _within(self, samples: Iterable[str]) -> dict[str, float]:
        texts, row = [self._cut(sample) for sample in samples], {}
        for n in self.orders:
            grams = [gram for own in texts for gram in _grams(own, n)]
            row[f"{self._name(n)}_new"] = float(len(set(grams)))
            row[f"{self._name(n)}_all"] = float(len(grams))
        return row

    def _cut(self, text: str) -> list[str]:
        return self.cut(text.lower() if self.lowercase else text)


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[k:] for k in range(n)), strict=False))
