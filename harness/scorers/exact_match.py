"""Exact match."""

from __future__ import annotations

import re

from pydantic import field_validator

from harness.scorers._normalise import extract, normalise
from harness.scorers.base import Metric, Prediction, Scorer


class ExactMatch(Scorer):
    r"""1 where the answer equals one of the references, else 0.

    Where `answer_pattern` matches in a reference, only what it captures is compared, so that worked
    solutions ending in `#### n` are judged by n (Cobbe et al., 2021, arXiv:2110.14168). An answer
    without the pattern is then wrong.
    """

    VERSION = 2
    metrics = {"exact_match": Metric()}

    answer_pattern: str | None = r"####\s*(\S+)"
    """Regular expression of the final answer; null compares whole answers."""
    ignore_case: bool = True
    """Compare in lower case."""
    normalise: bool = False
    """Also drop punctuation and articles, as SQuAD does, from answers without `answer_pattern`."""

    @field_validator("answer_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    def score(self, prediction: Prediction) -> dict[str, float]:
        hit = any(self._equal(prediction.text, reference) for reference in prediction.references)
        return {"exact_match": float(hit)}

    def _equal(self, answer: str, reference: str) -> bool:
        if self.answer_pattern and re.search(self.answer_pattern, reference):
            if not re.search(self.answer_pattern, answer):
                return False
            # A number keeps its sign and its point, whatever `normalise` says.
            answer = extract(answer, self.answer_pattern)
            reference = extract(reference, self.answer_pattern)
            return answer.lower() == reference.lower() if self.ignore_case else answer == reference
        return self._form(answer) == self._form(reference)

    def _form(self, text: str) -> str:
        if self.normalise:
            return normalise(text)
        text = " ".join(text.split())
        return text.lower() if self.ignore_case else text
