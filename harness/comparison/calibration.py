"""Holds a judge to labels: how well its verdicts agree with them, and its faults.

All numbers are of one judge on one set of labelled pairs. A verdict or a label is a sign: 1 if the
first answer is better, -1 if the other is, 0 for a tie.

Kappa and alpha are of each pair in both orders, as it stands and with its answers exchanged. Which
answer is called the first one is chance, and it would change what guessing is said to reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.comparison import agreement, judge_biases
from harness.comparison.credentials import Agreement, Credentials
from harness.comparison.result import Estimate
from harness.comparison.statistics import Array, Clusters

ALL_PAIRS = "all pairs"


@dataclass(frozen=True)
class JudgedPair:
    """A pair of answers, what people say of it, and what the judge says.

    Attributes:
        cluster: what belongs together, such as the row that the prompt is of.
        labels: labeller -> sign, by dimension; the dimension of labels on the whole is empty.
        verdicts: the judge's sign in each run; None where it gave none.
        orders: the probability that the first answer is better, as the judge gave it with the
            answers as they stand and exchanged; None if it does not read both orders.
        lengths: of both answers, in characters.
        asked: whether the judge was asked, as it is not of equal answers.
        names: of the prompt and of both answers, for triples of one prompt.
        rated: of a judge that rates: dimension -> which answer it rates higher, as a sign. On the
            whole it says what its verdicts are.
    """

    cluster: str
    labels: Mapping[str, Mapping[str, int]]
    verdicts: tuple[int | None, ...]
    orders: tuple[float, float] | None
    lengths: tuple[int, int]
    asked: bool = True
    names: tuple[str, str, str] = ("", "", "")
    rated: Mapping[str, int | None] | None = None

    def verdict(self, dimension: str) -> int | None:
        """The verdict of the first run, or by the ratings on a dimension; None if it is missing."""
        if self.rated is None or dimension not in self.rated:
            return self.verdicts[0]
        return self.rated[dimension]

    def label(self, dimension: str) -> int | None:
        """The label that most people give; a tie where they are divided. None without labels."""
        signs = list(self.labels.get(dimension, {}).values())
        if not signs:
            return None
        up, down = signs.count(1), signs.count(-1)
        if max(up, down) * 2 <= len(signs):
            return 0
        return 1 if up > down else -1


def credentials(
    judge: str, source: str, pairs: Sequence[JudgedPair], precision: float = 0.05
) -> Credentials:
    """A judge's credentials by labelled pairs.

    Args:
        judge: its name, for people.
        source: where the labels come from, for people.
        precision: half the width of the interval that `further` is about.
    """
    main = _main_dimension(pairs)
    labelled = [pair for pair in pairs if pair.label(main) is not None]
    judged = [pair for pair in labelled if pair.verdict(main) is not None]
    runs = max((len(pair.verdicts) for pair in pairs), default=0)
    chain = judge_biases.transitivity(_compared(pairs))
    whole = _agreement(ALL_PAIRS, judged, main)
    return Credentials(
        judge=judge, source=source, labelled=len(labelled), missing=len(labelled) - len(judged),
        labellers=len({name for p in pairs for by in p.labels.values() for name in by}),
        people=_people(labelled, main),
        agreements=[] if whole is None else [whole, *_slices(pairs, judged, main)],
        **_biases(judged, main),
        runs=runs,
        repeatability=_repeatability(pairs) if runs > 1 else None,
        triples=chain.triples if chain else 0,
        transitivity=chain.consistent if chain else None,
        chance=chain.by_chance if chain else None,
        precision=precision,
        further=_further(whole, judged, precision),
    )  # fmt: skip


def _main_dimension(pairs: Iterable[JudgedPair]) -> str:
    """On the whole, if anybody labelled so; else the first dimension that is labelled."""
    dimensions = list(dict.fromkeys(name for pair in pairs for name in pair.labels))
    return "" if "" in dimensions or not dimensions else dimensions[0]


def _slices(
    pairs: Sequence[JudgedPair], judged: Sequence[JudgedPair], main: str
) -> list[Agreement]:
    """By each dimension that is labelled, and by quarters of the length of both answers."""
    dimensions = list(dict.fromkeys(name for pair in pairs for name in pair.labels if name))
    slices = [
        _agreement(
            f"dimension {name}",
            [p for p in pairs if p.label(name) is not None and p.verdict(name) is not None],
            name,
        )
        for name in dimensions
    ]
    lengths = np.asarray([float(sum(pair.lengths)) for pair in judged])
    quarters = judge_biases.length_quarters(lengths)
    slices += [
        _agreement(f"{quarter} quarter",
                   [p for p, q in zip(judged, quarters, strict=True) if q == quarter], main)
        for quarter in judge_biases.QUARTERS
    ]  # fmt: skip
    return [part for part in slices if part is not None]


def _agreement(name: str, pairs: Sequence[JudgedPair], dimension: str) -> Agreement | None:
    """How well the first run agrees with the labels; None without pairs."""
    if not pairs:
        return None
    clusters, labels = _clusters(pairs), _labels(pairs, dimension)
    verdicts = _verdicts(pairs, dimension)
    decided = labels != 0
    accuracy = None
    if decided.any():
        kept = Clusters([p.cluster for p, keep in zip(pairs, decided, strict=True) if keep])
        accuracy = agreement.proportion((1 + verdicts[decided] * labels[decided]) / 2, kept)
    one, other = _both_ways(labels), _both_ways(verdicts)
    twice = Clusters([pair.cluster for pair in pairs] * 2)
    return Agreement(
        slice=name,
        pairs=len(pairs),
        agreement=agreement.proportion((labels == verdicts).astype(float), clusters),
        by_chance=sum(one.count(sign) * other.count(sign) / len(one) ** 2 for sign in (1, 0, -1)),
        accuracy=accuracy,
        kappa=agreement.kappa(one, other, twice),
        alpha=agreement.alpha(list(zip(one, other, strict=True)), twice),
    )


def _both_ways(signs: Array) -> list[int]:
    """The signs of the pairs as they stand, then with their answers exchanged."""
    return [int(sign) for sign in (*signs, *-signs)]


def _people(pairs: Sequence[JudgedPair], dimension: str) -> Estimate | None:
    """The alpha of the people who labelled."""
    names = sorted({name for pair in pairs for name in pair.labels.get(dimension, {})})
    if len(names) < 2:
        return None
    rated = [[pair.labels[dimension].get(name) for name in names] for pair in pairs]
    turned = [[None if sign is None else -sign for sign in unit] for unit in rated]
    return agreement.alpha([*rated, *turned], Clusters([pair.cluster for pair in pairs] * 2))


def _biases(pairs: Sequence[JudgedPair], dimension: str) -> dict[str, Estimate | None]:
    asked = [pair for pair in pairs if pair.asked]
    both = [pair for pair in asked if pair.orders is not None]
    orders = np.asarray([pair.orders for pair in both], dtype=np.float64).reshape(-1, 2)

    def of_orders(statistic: Callable[[Array, Array, Clusters], Estimate]) -> Estimate | None:
        return statistic(orders[:, 0], orders[:, 1], _clusters(both)) if both else None

    excess = np.asarray([float(pair.lengths[0] - pair.lengths[1]) for pair in asked])
    verbosity = None
    if asked:
        verbosity = judge_biases.verbosity_bias(
            _verdicts(asked, dimension), _labels(asked, dimension), excess, _clusters(asked)
        )
    return {
        "position": of_orders(judge_biases.position_bias),
        "flips": of_orders(judge_biases.flip_rate),
        "by_mean": _accuracy_by_mean(both, dimension),
        "verbosity": verbosity,
    }


def _accuracy_by_mean(pairs: Sequence[JudgedPair], dimension: str) -> Estimate | None:
    """How often the mean probability of both orders names the better answer, half for neither."""
    decided = [pair for pair in pairs if pair.label(dimension) and pair.orders is not None]
    if not decided:
        return None
    leans = np.sign([sum(pair.orders) - 1 for pair in decided if pair.orders is not None])
    return agreement.proportion((1 + leans * _labels(decided, dimension)) / 2, _clusters(decided))


def _repeatability(pairs: Sequence[JudgedPair]) -> Estimate | None:
    asked = [pair for pair in pairs if pair.asked]
    if not asked:
        return None
    runs = list(zip(*(pair.verdicts for pair in asked), strict=True))
    return judge_biases.repeatability(runs, _clusters(asked))


def _compared(pairs: Iterable[JudgedPair]) -> list[judge_biases.Compared]:
    return [
        judge_biases.Compared(*pair.names, pair.verdicts[0])
        for pair in pairs
        if pair.names[0] and pair.verdicts[0] is not None
    ]


def _further(
    whole: Agreement | None, pairs: Sequence[JudgedPair], precision: float
) -> dict[str, int | None]:
    """Of each number over all pairs, how many more labels bring it to that precision."""
    if whole is None:
        return {}
    labelled = _clusters(pairs).count
    needed: dict[str, int | None] = {
        "agreement": judge_biases.labels_for_share(whole.agreement.value, labelled, precision)
    }
    for name, estimate in (("kappa", whole.kappa), ("alpha", whole.alpha)):
        if estimate is not None:
            needed[name] = judge_biases.labels_for_estimate(estimate, labelled, precision)
    return needed


def _clusters(pairs: Sequence[JudgedPair]) -> Clusters:
    return Clusters([pair.cluster for pair in pairs])


def _labels(pairs: Sequence[JudgedPair], dimension: str) -> Array:
    return np.asarray([float(pair.label(dimension) or 0) for pair in pairs])


def _verdicts(pairs: Sequence[JudgedPair], dimension: str) -> Array:
    return np.asarray([float(pair.verdict(dimension) or 0) for pair in pairs])
