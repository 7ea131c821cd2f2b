"""Rules that say which of two answers is more like the row's references, to hold a judge against.

A judge that agrees with them no more than chance does may still be right: they count words, or
compare the vectors of tokens. But a judge that nobody has held to anything says nothing.

    harness judge calibrate suites/smollm2-judge.yaml --rule likeness.py:by_rouge
    harness judge calibrate suites/smollm2-judge.yaml --rule likeness.py:by_bertscore
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.scorers.base import Prediction, ScoreJob, Scorer
from harness.scorers.bertscore import Bertscore
from harness.scorers.rouge import Rouge


def by_rouge(row: Mapping[str, Any], one: str, other: str) -> float | None:
    """By ROUGE-L."""
    return _nearer(Rouge(), "rougeL", row, one, other)


def by_bertscore(row: Mapping[str, Any], one: str, other: str) -> float | None:
    """By BERTScore's F1."""
    return _nearer(_bertscore(), "bertscore_f1", row, one, other)


@functools.cache
def _bertscore() -> Bertscore:
    return Bertscore()


def _nearer(
    scorer: Scorer, column: str, row: Mapping[str, Any], one: str, other: str
) -> float | None:
    """How much more the first answer is like the references; None without any."""
    references = tuple(row.get("references") or ())
    if not references:
        return None
    answers = [Prediction(side, side, "", "", text, references)
               for side, text in (("one", one), ("other", other))]  # fmt: skip
    with tempfile.TemporaryDirectory() as cache:
        first, second = scorer.score_job(ScoreJob({"answers": answers}, cache=Path(cache)))
    return float(first[column]) - float(second[column])
