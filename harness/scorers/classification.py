"""Accuracy and macro-F1 of label tasks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from harness.errors import DataError
from harness.scorers.base import Metric, Prediction, Scorer


class Classification(Scorer):
    """Accuracy and macro-F1 over labels, and the share of answers that name none of them.

    Macro-F1 is the mean of every listed label's F1, made from counts, so that a resample gets its
    own; a label that neither occurs nor is predicted counts 0, as in scikit-learn's
    f1_score(labels=..., average="macro", zero_division=0). An answer without a label is wrong, and
    no label's false positive.
    """

    VERSION = 1

    labels: list[str] = Field(min_length=2)
    """The labels, as the references write them."""
    match: Literal["whole", "first"] = "whole"
    """`whole`: the answer is the label. `first`: the label that stands first in the answer, as a
    word of its own, counts; of two that begin there, the longer."""
    ignore_case: bool = True
    """Compare in lower case."""

    @field_validator("labels")
    @classmethod
    def _differ(cls, value: list[str]) -> list[str]:
        forms = [" ".join(label.lower().split()) for label in value]
        if "" in forms or len(set(forms)) < len(forms):
            raise ValueError(f"labels must differ and not be empty: {value}")
        return value

    def declared(self) -> Mapping[str, Metric]:
        counts = {f"{kind}_{k}": f"{kind} {label}" for kind in ("tp", "fp", "fn")
                  for k, label in enumerate(self.labels, 1)}  # fmt: skip
        return {
            "accuracy": Metric(),
            "macro_f1": Metric("macro_f1", columns=counts),
            "no_label": Metric(higher_is_better=False),
        }

    def score(self, prediction: Prediction) -> dict[str, float]:
        """Raises DataError where no reference is one of the labels."""
        wanted = [label for r in prediction.references if (label := self._whole(r)) is not None]
        if not wanted:
            raise DataError(
                f"example {prediction.example_id}: none of the references"
                f" {list(prediction.references)} is a label",
                fix=f"labels: {', '.join(self.labels)}",
            )
        given = self._whole(prediction.text) if self.match == "whole" else self._first(prediction)
        # With several right labels, the one given is the one that counts.
        gold = given if given in wanted else wanted[0]
        row = {"accuracy": float(given == gold), "no_label": float(given is None)}
        for label in self.labels:
            row[f"tp {label}"] = float(label == gold == given)
            row[f"fp {label}"] = float(label == given != gold)
            row[f"fn {label}"] = float(label == gold != given)
        return row

    def _form(self, text: str) -> str:
        text = " ".join(text.split())
        return text.lower() if self.ignore_case else text

    def _whole(self, text: str) -> str | None:
        return next((x for x in self.labels if self._form(x) == self._form(text)), None)

    def _first(self, prediction: Prediction) -> str | None:
        longest_first = sorted(map(self._form, self.labels), key=len, reverse=True)
        choice = "|".join(map(re.escape, longest_first))
        found = re.search(rf"(?<!\w)(?:{choice})(?!\w)", self._form(prediction.text))
        return self._whole(found.group(0)) if found else None
