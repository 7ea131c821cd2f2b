"""Accuracy and macro-F1 of label tasks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator

from harness.core.errors import DataError
from harness.data.scripts import scripts_of
from harness.data.words import SPACELESS
from harness.scorers.base import SHARE, Metric, Prediction, Scorer


class Classification(Scorer):
    """Accuracy and macro-F1 over labels, and the share of answers that name none of them.

    Macro-F1 is the mean F1 of all listed labels, from the counts over all answers. A label that
    neither occurs nor is predicted has an F1 of 0, as in scikit-learn's
    f1_score(labels=..., average="macro", zero_division=0). The report says which labels do not
    occur, and the accuracy of always answering with the most common label. An answer without a
    label is wrong, and is no false positive of any label.
    """

    VERSION = 2
    needs_references = True

    labels: list[str] = Field(min_length=2)
    """The labels, as the references write them."""
    match: Literal["whole", "first"] = "whole"
    """`whole`: the whole answer must be the label. `first`: the first label in the answer counts,
    as a separate word (in scripts without spaces, anywhere). If two labels begin at the same place,
    the longer one counts."""
    ignore_case: bool = True
    """Compare in lower case."""

    _seen: dict[str, Any] = PrivateAttr(default_factory=dict)

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
            "accuracy": Metric(bounds=SHARE),
            "macro_f1": Metric("macro_f1", columns=counts),
            "no_label": Metric(higher_is_better=False, bounds=SHARE),
        }

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        predictions = list(predictions)
        rows = [self.score(prediction) for prediction in predictions]
        right = Counter(label for p in predictions for label in set(self._wanted(p)))
        (common, most), absent = right.most_common(1)[0], [x for x in self.labels if not right[x]]
        notes = [
            f"'{common}' alone, whatever is asked, has an accuracy of {most / len(rows):.3f} here"
        ]
        if absent:
            notes.append(
                f"no reference is {', '.join(map(repr, absent))}, so that macro_f1 is at most"
                f" {1 - len(absent) / len(self.labels):.3f}"
            )
        self._seen["notes"] = notes
        return rows

    def provenance(self) -> dict[str, Any]:
        return dict(self._seen)

    def score(self, prediction: Prediction) -> dict[str, float]:
        """Raises DataError where no reference is one of the labels."""
        wanted = self._wanted(prediction)
        if not wanted:
            raise DataError(
                f"example {prediction.example_id}: none of the references"
                f" {list(prediction.references)} is a label",
                fix=f"labels: {', '.join(self.labels)}",
            )
        label = self._whole(prediction.text) if self.match == "whole" else self._first(prediction)
        # If several labels are right, the one that was answered counts.
        gold = label if label in wanted else wanted[0]
        row = {"accuracy": float(label == gold), "no_label": float(label is None)}
        for listed in self.labels:
            row[f"tp {listed}"] = float(listed == gold == label)
            row[f"fp {listed}"] = float(listed == label != gold)
            row[f"fn {listed}"] = float(listed == gold != label)
        return row

    def _wanted(self, prediction: Prediction) -> list[str]:
        labels = map(self._whole, prediction.references)
        return [label for label in labels if label is not None]

    def _form(self, text: str) -> str:
        text = " ".join(text.split())
        return text.lower() if self.ignore_case else text

    def _whole(self, text: str) -> str | None:
        return next((x for x in self.labels if self._form(x) == self._form(text)), None)

    def _first(self, prediction: Prediction) -> str | None:
        longest_first = sorted(map(self._form, self.labels), key=len, reverse=True)
        match = re.search("|".join(map(_word, longest_first)), self._form(prediction.text))
        return self._whole(match.group(0)) if match else None


def _word(label: str) -> str:
    """A regular expression of the label as a separate word; in scripts without spaces, anywhere."""
    before, behind = (SPACELESS.isdisjoint(scripts_of(label[k])) for k in (0, -1))
    return ("(?<!\\w)" if before else "") + re.escape(label) + ("(?!\\w)" if behind else "")
