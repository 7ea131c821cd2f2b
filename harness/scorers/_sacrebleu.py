"""What bleu, chrf and ter share: sacrebleu's statistics of each example, as columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.scorers.base import Prediction


def statistics(metric: Any, predictions: Iterable[Prediction]) -> list[list[float]]:
    """sacrebleu's sufficient statistics, a list for each prediction.

    Args:
        metric: one of sacrebleu.metrics.
        predictions: the number of references may differ between them.
    """
    predictions = list(predictions)
    most = max(len(p.references) for p in predictions)
    # Streams of first, second ... references; sacrebleu takes None for one that is not there.
    streams = [
        [p.references[k] if k < len(p.references) else None for p in predictions]
        for k in range(most)
    ]
    counts = metric._extract_corpus_statistics([p.text for p in predictions], streams)
    return [[float(value) for value in values] for values in counts]


def signature(metric: Any) -> dict[str, str]:
    """sacrebleu's signature: its version and options, as published scores give them (Post,
    2018)."""
    return {"signature": str(metric.get_signature())}
