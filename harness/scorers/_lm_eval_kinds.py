"""lm-evaluation-harness's aggregations as sums of statistics of examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

from harness.core.aggregate import AGGREGATES


@dataclass(frozen=True)
class Kind:
    """How the value that lm-eval keeps of an example becomes statistics that sum.

    Attributes:
        aggregate: the name in harness.core.aggregate that makes the figure of their sums.
        statistics: an example's value -> statistic -> number.
        names: of the statistics.
    """

    aggregate: str
    statistics: Callable[[Any], dict[str, float]]
    names: tuple[str, ...] = ("value",)


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


def _brier(pair: Any) -> dict[str, float]:
    """The squared distance of the choices' probabilities from the right one (Brier, 1950)."""
    gold, shares = int(pair[0]), [float(share) for share in pair[1]]
    if not 0 <= gold < len(shares):
        raise ValueError(f"choice {gold} of {len(shares)}")
    return {"value": sum((share - (n == gold)) ** 2 for n, share in enumerate(shares))}


@cache
def _sacrebleu(name: str) -> Any:
    """What sacrebleu's function `corpus_...` makes of its defaults, as lm-eval calls it."""
    from sacrebleu.metrics import BLEU, CHRF, TER

    return {"bleu": BLEU, "chrf": CHRF, "chrf++": partial(CHRF, word_order=2), "ter": TER}[name]()


@lru_cache(maxsize=10_000)
def _counts(metric: str, answer: str, references: tuple[str, ...]) -> Sequence[float]:
    counts = _sacrebleu(metric)._extract_corpus_statistics([answer], [[r] for r in references])
    return [float(count) for count in counts[0]]


def _translated(metric: str, names: tuple[str, ...]) -> Callable[[Any], dict[str, float]]:
    """sacrebleu's sufficient statistics (Post, 2018, aclanthology.org/W18-6319) of the references
    of an example, or the one, with its answer."""

    def statistics(pair: Any) -> dict[str, float]:
        references, answer = pair
        several = (references,) if isinstance(references, str) else tuple(references)
        (answer,) = (answer,) if isinstance(answer, str) else answer
        return dict(zip(names, _counts(metric, answer, several), strict=True))

    return statistics


def _corpus(metric: str, aggregate: str, *names: str) -> Kind:
    return Kind(aggregate, _translated(metric, names), names)


def _by_order(names: Sequence[str], orders: int) -> list[str]:
    return [f"{name}_{order}" for order in range(1, orders + 1) for name in names]


_CLASSES, _GRAMS = ("tp", "tn", "fp", "fn"), ("hyp", "ref", "match")
KINDS: dict[str, Kind] = {
    "mean": Kind("mean", _mean),
    "nanmean": Kind("mean", _mean),
    "brier_score": Kind("mean", _brier),
    "perplexity": Kind("perplexity", _log_likelihood, ("nll", "tokens")),
    "weighted_perplexity": Kind("perplexity", _weighted("tokens"), ("nll", "tokens")),
    "bits_per_byte": Kind("bits_per_byte", _weighted("bytes"), ("nll", "bytes")),
    "f1": Kind("ratio", _f1, ("numerator", "denominator")),
    "matthews_corrcoef": Kind("mcc", _confusion, _CLASSES),
    "bleu": _corpus(
        "bleu", "bleu", "sys_len", "ref_len", *_by_order(["correct"], 4), *_by_order(["total"], 4)
    ),
    "chrf": _corpus("chrf", "chrf", *_by_order(_GRAMS, 6)),
    "chrf++": _corpus("chrf++", "chrf", *_by_order(_GRAMS, 8)),
    "ter": _corpus("ter", "ter", "edits", "ref_length"),
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
