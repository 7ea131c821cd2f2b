"""A suite's win rates with the judge's error in their intervals, where answers were labelled."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from harness.comparison.intervals import CONFIDENCE, student
from harness.comparison.prediction_powered import powered_mean
from harness.comparison.result import Estimate, PoweredRate
from harness.comparison.statistics import Clusters
from harness.data.contests import TIE

LEAST_LABELS = 10
"""Labelled examples that a corrected win rate needs at least."""


def powered_rate(
    variant: str,
    other: str,
    evaluation: str,
    won: Mapping[str, float],
    labels: Mapping[str, float],
    stage: str = "",
    equal: Collection[str] = (),
    clusters: Mapping[str, str] = {},
) -> PoweredRate | None:
    """A variant's win rate with the judge's error in its interval.

    Args:
        won: example -> the judge's decision: 1, 0, or 1/2 for a tie.
        labels: example -> the same by its label; drawn at random from all examples whose answers
            are not equal.
        stage: the key of the score stage whose win rate it is.
        equal: examples whose answers are equal, which tie and need no label.
        clusters: example -> what it belongs to, if that is not it alone.

    Returns:
        None if fewer than LEAST_LABELS examples have both.
    """
    asked = set(won) - set(equal)
    both, rest = sorted(asked & set(labels)), sorted(asked - set(labels))
    if len(both) < LEAST_LABELS:
        return None

    def of(names: Sequence[str]) -> list[str]:
        return [clusters.get(name, name) for name in names]

    result = powered_mean(
        np.asarray([labels[name] for name in both]), np.asarray([won[name] for name in both]),
        np.asarray([won[name] for name in rest]),
        Clusters(of(both)), Clusters(of(rest) or [""]),
    )  # fmt: skip
    return PoweredRate(
        variant=variant, other=other, evaluation=evaluation, labelled=len(both),
        examples=len(won), judged=float(np.mean(list(won.values()))),
        labels=_with_ties(result.labels, len(asked), len(won)),
        both=_with_ties(result.estimate, len(asked), len(won)), weight=result.weight, stage=stage,
    )  # fmt: skip


def _with_ties(estimate: Estimate, asked: int, every: int) -> Estimate:
    """The win rate over all examples from that over those with different answers: the others tie.
    How many of them there are is uncertain too."""
    if asked == every:
        return estimate
    share = asked / every
    value = TIE + share * (estimate.value - TIE)
    if estimate.low is None or estimate.high is None:
        return Estimate(value)
    deviation = math.sqrt(share * (1 - share) / every) * abs(estimate.value - TIE)
    drawn = student((1 - CONFIDENCE) / 2, every - 1) * deviation
    below, above = (
        math.hypot(share * (end - estimate.value), drawn) for end in (estimate.low, estimate.high)
    )
    return Estimate(value, max(0.0, value - below), min(1.0, value + above))
