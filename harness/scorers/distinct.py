"""Diversity of the outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from pydantic import Field, field_validator

from harness.scorers.base import Metric, Prediction, Scorer


class Distinct(Scorer):
    """distinct-n: different word n-grams over all n-grams of the outputs together (Li et al., 2016,
    arXiv:1510.03055). Fine-tuning narrows answers, and this is where it shows.

    The number falls as a set grows: compare it only between outputs for the same prompts. An n-gram
    said c times gives 1/c to each example that says it, so that the examples' sums are the corpus
    figure; resamples hold these shares fixed (drawing an example twice would count as repetition
    of its own words). Self-BLEU needs several samples of one prompt, and is not made of greedy
    outputs.
    """

    VERSION = 1

    orders: list[int] = Field([1, 2], min_length=1)
    """Lengths n of the n-grams, one metric each."""
    lowercase: bool = True
    """Count words in lower case. Words are what stands between white space."""

    @field_validator("orders")
    @classmethod
    def _positive(cls, value: list[int]) -> list[int]:
        if min(value) < 1 or len(set(value)) < len(value):
            raise ValueError(f"orders must be different numbers from 1 on: {value}")
        return value

    def declared(self) -> Mapping[str, Metric]:
        return {
            f"distinct_{n}": Metric(
                "ratio",
                columns={"numerator": f"distinct_{n}_new", "denominator": f"distinct_{n}_all"},
            )
            for n in self.orders
        }

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        texts = [p.text.lower() if self.lowercase else p.text for p in predictions]
        words = [text.split() for text in texts]
        rows: list[dict[str, float]] = [{} for _ in words]
        for n in self.orders:
            grams = [list(zip(*(own[k:] for k in range(n)), strict=False)) for own in words]
            said = Counter(gram for own in grams for gram in own)
            for row, own in zip(rows, grams, strict=True):
                row[f"distinct_{n}_new"] = sum(1 / said[gram] for gram in own)
                row[f"distinct_{n}_all"] = float(len(own))
        return rows
