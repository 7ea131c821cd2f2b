"""Exact match."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import PrivateAttr, field_validator

from harness.scorers._normalise import bare, extract, normalise
from harness.scorers.base import SHARE, Metric, Prediction, Scorer

GSM8K = r"(?s)\A.*?####\s*(\S+)"
"""The text after the first `####`, up to white space."""
_NUMBER = re.compile(r"-?[0-9.,]+")


class ExactMatch(Scorer):
    r"""1 where the answer equals one of the references, else 0.

    If `answer_pattern` matches in a reference, only the captured text is compared. So worked
    solutions that end in `#### n` are compared by n, as the code of GSM8K does (Cobbe et al., 2021,
    arXiv:2110.14168; github.com/openai/grade-school-math): by the text after the first `####`; of a
    number, commas and characters directly after it are left out (18% is 18). An answer in which the
    pattern does not match is then wrong.

    Numbers are compared as they are written: 18.0 is not 18, nor are $18 and 36/2. If a reference
    is not a number, such as 3/4, the whole captured text counts.
    """

    VERSION = 3
    needs_references = True
    metrics = {"exact_match": Metric(bounds=SHARE)}

    answer_pattern: str | None = GSM8K
    """Regular expression of the final answer. Its last match counts, or the first group of that
    match if there are groups. null compares whole answers."""
    ignore_case: bool = True
    """Compare in lower case."""
    normalise: bool = False
    """Also remove punctuation and articles, as SQuAD does, where `answer_pattern` does not
    match."""

    @field_validator("answer_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            matches_empty = re.compile(value or "").search("")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if value is not None and matches_empty:
            # Its last match is the empty end of any text, and all answers would be equal.
            raise ValueError("it is found in the empty text; null compares whole answers")
        return value

    _seen: dict[str, Any] = PrivateAttr(default_factory=dict)

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        predictions = list(predictions)
        if self.normalise and (
            notes := bare([r for p in predictions for r in p.references if not self._ends(r)])
        ):
            self._seen["notes"] = notes
        return super().score_all(predictions)

    def provenance(self) -> dict[str, Any]:
        return dict(self._seen)

    def _ends(self, text: str) -> bool:
        """Whether a text has a final answer by the pattern."""
        return self.answer_pattern is not None and bool(re.search(self.answer_pattern, text))

    def score(self, prediction: Prediction) -> dict[str, float]:
        hit = any(self._equal(prediction.text, reference) for reference in prediction.references)
        return {"exact_match": float(hit)}

    def _equal(self, answer: str, reference: str) -> bool:
        if self._ends(reference):
            if not self._ends(answer):
                return False
            return self._same(*(extract(t, self.answer_pattern) for t in (answer, reference)))
        return self._form(answer) == self._form(reference)

    def _same(self, answer: str, reference: str) -> bool:
        """Whether two captured answers agree; a number keeps its sign and its point, whatever
        `normalise` says."""
        answer, reference = answer.strip(), reference.strip()
        if _NUMBER.fullmatch(reference):
            leading = _NUMBER.match(answer)
            if leading is not None and not any(map(str.isspace, answer)):
                answer = leading.group()
            return answer.replace(",", "") == reference.replace(",", "")
        return answer.lower() == reference.lower() if self.ignore_case else answer == reference

    def _form(self, text: str) -> str:
        if self.normalise:
            return normalise(text)
        text = " ".join(text.split())
        return text.lower() if self.ignore_case else text
