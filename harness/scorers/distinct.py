"""Diversity of the outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field, field_validator

from harness.scorers._words import TokenizedScorer
from harness.scorers.base import Metric, Prediction


class Distinct(TokenizedScorer):
    """distinct-n: the number of different word n-grams divided by the number of all n-grams, over
    all outputs together (Li et al., 2016, arXiv:1510.03055). Fine-tuning makes answers less
    diverse, and this metric shows it.

    The value falls as the number of outputs grows: compare it only between outputs to the same
    prompts. An n-gram that occurs c times adds 1/c to each example for each time, so that the sums
    over the examples give the value of the corpus; the interval treats these shares as fixed. In
    tables by family, an n-gram that occurs in other families too counts in part only, so that a
    family alone would have a higher value.
    """

    VERSION = 1

    orders: list[int] = Field([1, 2], min_length=1)
    """Lengths n of the n-grams; there is one metric for each."""
    lowercase: bool = True
    """Count words in lower case."""
    over: Literal["outputs", "samples"] = "outputs"
    """`outputs`: over the greedy answers to all prompts. `samples`: over the samples of each prompt
    (`generate: {samples: 4}`)."""

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
        """A row for each prompt. With `over: samples` each prompt is a corpus of its own."""
        predictions = list(predictions)
        self.look(predictions)
        if self.over == "samples":
            return self._noted([self._within(prediction.samples) for prediction in predictions])
        texts = [self._cut(p.text) for p in predictions]
        rows: list[dict[str, float]] = [{} for _ in texts]
        for n in self.orders:
            texts_grams = [_grams(words, n) for words in texts]
            counts = Counter(gram for grams in texts_grams for gram in grams)
            for row, grams in zip(rows, texts_grams, strict=True):
                row[f"{self._name(n)}_new"] = sum(1 / counts[gram] for gram in grams)
                row[f"{self._name(n)}_all"] = float(len(grams))
        return self._noted(rows)

    def _noted(self, rows: list[dict[str, float]]) -> list[dict[str, float]]:
        """The same rows. A note is kept if all answers are too short for an n-gram: a value of 0
        then does not mean that the answers are alike."""
        none = [n for n in self.orders if not any(row[f"{self._name(n)}_all"] for row in rows)]
        if none:
            names = ", ".join(map(self._name, none))
            note = (
                f"no answer is long enough for {names} (tokenize: {self.tokenize}): 0 says nothing"
                " of diversity there"
            )
            self._seen["answer_notes"] = [*self._seen.get("answer_notes", ()), note]
        return rows

    def _within(self, samples: Iterable[str]) -> dict[str, float]:
        texts, row = [self._cut(sample) for sample in samples], {}
        for n in self.orders:
            grams = [gram for words in texts for gram in _grams(words, n)]
            row[f"{self._name(n)}_new"] = float(len(set(grams)))
            row[f"{self._name(n)}_all"] = float(len(grams))
        return row

    def _cut(self, text: str) -> list[str]:
        return self.cut(text.lower() if self.lowercase else text)


def _grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[k:] for k in range(n)), strict=False))
