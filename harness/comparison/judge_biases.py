"""A judge's known faults as numbers with intervals, and how many more labels a precision needs.

A judge that reads both orders of two answers gives two numbers for one contest: the probability
that answer `one` is better, once as it was shown first, and once as it was shown second (Zheng et
al., 2023, arXiv:2306.05685, section 3.4). A verdict is the sign: 1, 0 for a tie, or -1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from harness.comparison import binomial
from harness.comparison.agreement import mean, proportion
from harness.comparison.result import Estimate
from harness.comparison.statistics import Array, Clusters

QUARTERS = ("shortest", "short", "long", "longest")
_MOST_LABELS = 1_000_000


def position_bias(as_first: Array, as_second: Array, clusters: Clusters) -> Estimate:
    """How much more probable an answer is to win where it is shown first, from -1 to 1.

    0 means that the order does not matter; 1 that the answer shown first always wins.

    Args:
        as_first, as_second: the probability that answer `one` is better where it is shown first,
            and where it is shown second; shape (n,).
    """
    inference = mean(as_first - as_second, clusters).within(-1.0, 1.0)
    return Estimate(inference.value, inference.low, inference.high)


def flip_rate(as_first: Array, as_second: Array, clusters: Clusters) -> Estimate:
    """The share of contests whose verdict changes with the order of the answers.

    Args:
        as_first, as_second: as for `position_bias`, or the signs of verdicts with 0 for a tie,
            each less 0.5 being a sign.
    """
    changed = np.sign(as_first - 0.5) != np.sign(as_second - 0.5)
    return proportion(changed.astype(float), clusters)


def verbosity_bias(
    verdicts: Array, labels: Array | None, excess: Array, clusters: Clusters
) -> Estimate | None:
    """How much oftener the judge prefers the longer answer than people do, from -1 to 1.

    Without labels, how much oftener than in half of the contests: that is no fault where longer
    answers are better (Saito et al., 2023, arXiv:2310.10076). A tie is half a preference.

    Args:
        verdicts, labels: signs, 1 for answer `one`; shape (n,).
        excess: the length of answer `one` less the other's; equal lengths count nowhere.

    Returns:
        None if all answers are equally long.
    """
    told = excess != 0
    if not told.any():
        return None
    longer = np.sign(excess[told])
    usual = np.zeros(int(told.sum())) if labels is None else labels[told] * longer
    kept = Clusters([str(cluster) for cluster in clusters.index[told]])
    inference = mean((verdicts[told] * longer - usual) / 2, kept).within(-1.0, 1.0)
    return Estimate(inference.value, inference.low, inference.high)


def repeatability(runs: Sequence[Sequence[int | None]], clusters: Clusters) -> Estimate:
    """The share of contests on which all runs of one judge give the same verdict.

    Args:
        runs: the verdicts of each run, in the order of the contests; None where it gave none.
    """
    same = [len(set(verdicts)) == 1 for verdicts in zip(*runs, strict=True)]
    return proportion(np.asarray(same, dtype=float), clusters)


class Compared(NamedTuple):
    """A verdict on two of several answers to a prompt.

    Attributes:
        one, other: what names the answers of this prompt.
        verdict: 1 if `one` is better, -1 if `other` is, 0 for a tie.
    """

    prompt: str
    one: str
    other: str
    verdict: int


class Transitivity(NamedTuple):
    """Triples of answers to one prompt that were all compared.

    Attributes:
        consistent: the share of triples that some ranking, ties allowed, explains.
        by_chance: the share that verdicts drawn at random, as often 1, 0 and -1 as these, reach.
    """

    consistent: Estimate
    by_chance: float
    triples: int


def transitivity(verdicts: Iterable[Compared]) -> Transitivity | None:
    """How often the verdicts on three answers fit one ranking, over clusters of prompts.

    Returns:
        None if no prompt has three answers that were all compared.
    """
    by_prompt: dict[str, dict[tuple[str, str], int]] = {}
    for prompt, one, other, verdict in verdicts:
        signs = by_prompt.setdefault(prompt, {})
        signs[one, other], signs[other, one] = verdict, -verdict
    prompts, fits, signs_seen = list[str](), list[float](), list[int]()
    for prompt, signs in by_prompt.items():
        for a, b, c in itertools.combinations(sorted({one for one, _ in signs}), 3):
            if (a, b) in signs and (b, c) in signs and (a, c) in signs:
                triple = signs[a, b], signs[b, c], signs[a, c]
                prompts.append(prompt)
                fits.append(float(triple in _RANKINGS))
                signs_seen += triple
    if not fits:
        return None
    tied = signs_seen.count(0) / len(signs_seen)
    weights: Mapping[int, float] = {0: tied, 1: (1 - tied) / 2, -1: (1 - tied) / 2}
    chance = sum(math.prod(weights[sign] for sign in triple) for triple in _RANKINGS)
    share = proportion(np.asarray(fits), Clusters(prompts))
    return Transitivity(share, chance, len(fits))


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


_RANKINGS = {
    (_sign(a - b), _sign(b - c), _sign(a - c)) for a, b, c in itertools.product(range(3), repeat=3)
}
"""The 13 of 27 triples of verdicts (a, b), (b, c), (a, c) that a ranking with ties explains."""


def length_quarters(lengths: Array) -> list[str]:
    """Each example's quarter by length, one of QUARTERS.

    Equal lengths fall into one quarter.
    """
    ends = np.quantile(lengths, [0.25, 0.5, 0.75])
    return [QUARTERS[place] for place in np.searchsorted(ends, lengths, side="left")]


def labels_for_share(share: float, labelled: int, half: float) -> int:
    """How many more labels bring a share's interval down to plus or minus `half`.

    Args:
        share: the share so far, such as an accuracy.
        labelled: how many labels it comes from, as independent ones.
    """

    def wide(count: int) -> bool:
        estimate = binomial.share(share * count, count)
        return (estimate.high or 0.0) - (estimate.low or 0.0) > 2 * half

    return _further(labelled, wide)


def labels_for_estimate(estimate: Estimate, labelled: int, half: float) -> int | None:
    """How many more labels bring an interval down to plus or minus `half`, as its width falls with
    the root of their number.

    Returns:
        None if the estimate has no interval.
    """
    if estimate.low is None or estimate.high is None:
        return None
    now = (estimate.high - estimate.low) / 2
    return max(0, math.ceil(labelled * (now / half) ** 2) - labelled)


def _further(labelled: int, wide: Callable[[int], bool]) -> int:
    """The least number of labels beyond `labelled` that is not too wide, by bisection."""
    if labelled > 0 and not wide(labelled):
        return 0
    low, high = max(labelled, 0), max(2 * labelled, 2)
    while wide(high) and high < _MOST_LABELS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if wide(middle) else (low, middle)
    return high - labelled
