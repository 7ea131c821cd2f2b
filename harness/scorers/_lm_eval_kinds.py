"""lm-evaluation-harness's aggregations as sums of statistics of examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.aggregate import AGGREGATES


@dataclass(frozen=True)
class Kind:
    """How the value that lm-eval keeps of an example becomes statistics that sum.

    Attributes:
        aggregate: the name in harness.core.aggregate that makes the figure of their sums.
        statistics: an example's value -> statistic -> number.
    """

    aggregate: str
    statistics: Callable[[Any], dict[str, float]]


def _mean(value: Any) -> dict[str, float]:
    return {"value": float(value)}


def _log_likelihood(value: Any) -> dict[str, float]:
    return {"nll": -float(value), "tokens": 1.0}


def _weighted(size: str) -> Callable[[Any], dict[str, float]]:
    """A log-likelihood (nats) with the number of words or bytes that it is of."""
    return lambda pair: {"nll": -float(pair[0]), size: float(pair[1])}


def _confusion(pair: Any) -> dict[str, float]:
    gold, predicted = (int(value) for value in pair)
    return {
        "tp": float(gold == 1 and predicted == 1),
        "tn": float(gold == 0 and predicted == 0),
        "fp": float(gold == 0 and predicted == 1),
        "fn": float(gold == 1 and predicted == 0),
    }


def _f1(pair: Any) -> dict[str, float]:
    """F1 of the class 1: 2 tp / (2 tp + fp + fn)."""
    counts = _confusion(pair)
    hits = 2 * counts["tp"]
    return {"numerator": hits, "denominator": hits + counts["fp"] + counts["fn"]}


KINDS: dict[str, Kind] = {
    "mean": Kind("mean", _mean),
    "nanmean": Kind("mean", _mean),
    "perplexity": Kind("perplexity", _log_likelihood),
    "weighted_perplexity": Kind("perplexity", _weighted("tokens")),
    "bits_per_byte": Kind("bits_per_byte", _weighted("bytes")),
    "f1": Kind("ratio", _f1),
    "matthews_corrcoef": Kind("mcc", _confusion),
}
"""lm-eval's aggregations -> ours. Another one's figure is kept without an interval."""


def name_of(function: Any) -> str:
    """lm-eval's name of an aggregation."""
    from lm_eval.api import registry

    for name in KINDS:
        if registry.get_aggregation(name) is function:
            return name
    return str(getattr(function, "__name__", function))


def sums(kind: Kind, values: Iterable[Any]) -> bool:
    try:
        return all(
            math.isfinite(number) for value in values for number in kind.statistics(value).values()
        )
    except (TypeError, ValueError, IndexError):
        return False


def figure(kind: Kind, values: Sequence[Any]) -> float:
    """A kind's figure of the values of some examples."""
    rows = [kind.statistics(value) for value in values]
    return value_of(kind.aggregate, {name: [row[name] for row in rows] for name in rows[0]})


def value_of(aggregate: str, columns: Mapping[str, Sequence[float]]) -> float:
    """An aggregate of columns with a number for each example."""
    import numpy as np

    totals = {name: np.asarray(math.fsum(column)) for name, column in columns.items()}
    size = np.asarray(len(next(iter(columns.values()))))
    with np.errstate(all="ignore"):  # what is no number equals no figure
        return float(AGGREGATES[aggregate].compute({**totals, "n": size}))


def equal(ours: float, theirs: Any) -> bool:
    try:
        return math.isclose(ours, float(theirs), rel_tol=1e-6, abs_tol=1e-9)
    except (TypeError, ValueError):
        return False
