"""Scores of answers that were drawn several times: their mean, and the noise of drawing them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.scorers.base import Prediction

_NOISE = " drawn"


def noise_column(column: str) -> str:
    """The column that holds the variance which drawing an example's answers anew would cause in its
    value."""
    return f"{column}{_NOISE}"


def mean_of_draws(
    score_all: Callable[[Iterable[Prediction]], list[dict[str, float]]],
    predictions: Sequence[Prediction],
) -> list[dict[str, float]]:
    """The columns of each example: the mean over its k drawn answers, and beside each column the
    variance of that mean, which is the variance over the answers divided by k (Miller, 2024,
    arXiv:2411.00640, section 3.1).

    Args:
        predictions: each with at least 2 samples.
    """
    drawn = [
        replace(prediction, text=sample.strip(), raw=sample, samples=(), finish="")
        for prediction in predictions
        for sample in prediction.samples
    ]
    each, rows, start = score_all(drawn), [], 0
    for prediction in predictions:
        count = len(prediction.samples)
        draws, start = each[start : start + count], start + count
        row: dict[str, float] = {}
        for column in draws[0]:
            values = [float(draw[column]) for draw in draws]
            mean = sum(values) / count
            row[column] = mean
            row[noise_column(column)] = sum((v - mean) ** 2 for v in values) / (count - 1) / count
        rows.append(row)
    return rows
