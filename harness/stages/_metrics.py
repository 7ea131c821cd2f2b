"""Metrics of a score stage, from the columns of its examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from harness.core.aggregate import AGGREGATES
from harness.core.errors import StageFailed
from harness.scorers.base import Scorer
from harness.store.score_table import KEYS


def require_finite(rows: Sequence[dict[str, Any]], scorer: Scorer) -> None:
    """Raise StageFailed where a value of an example is no finite number."""
    for row in rows:
        for column, value in row.items():
            if column not in KEYS and not math.isfinite(value):
                raise StageFailed(
                    "score is not a number",
                    f"{scorer.name} gave {column} = {value} for example {row['example_id']}",
                )


def require_figures(values: dict[str, float], scorer: Scorer) -> None:
    """Raise StageFailed where a metric is no finite number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise StageFailed(
                "score is not a number",
                f"{scorer.name} comes to {name} = {value} over all rows: there was nothing to"
                " measure, or the model is as good as certain of something else",
                fix="read the rows' scores beside this record, and the training's losses",
            )


def aggregate(metric: dict[str, Any], rows: Sequence[dict[str, Any]]) -> float:
    """The value of a metric over all examples; NaN or infinite where there is nothing to measure.

    Args:
        metric: as `Metric.declare` gives it.
    """
    import numpy as np

    sums = {
        statistic: np.asarray(math.fsum(row[column] for row in rows))
        for statistic, column in metric["columns"].items()
    }
    with np.errstate(all="ignore"):  # what is no number is refused with a sentence
        return float(AGGREGATES[metric["aggregate"]].compute({**sums, "n": np.asarray(len(rows))}))
