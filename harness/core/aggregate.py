"""Aggregates: named functions from summed statistics of examples to a metric. They import no torch.

Each function takes a mapping from the name of a statistic to an array of sums over examples. The
array may have any shape `(...,)`, and the metric has the same shape. So one function serves the
point estimate (scalars) and the metric without each cluster (one value for each). The statistic `n`
is the number of examples.

BLEU, chrF and TER compute the corpus score from sums exactly as sacrebleu does (Post, 2018,
aclanthology.org/W18-6319), which the tests verify. sacrebleu is not imported here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # numpy takes 0.1 s to import, which `harness --help` need not pay
    import numpy as np
    from numpy.typing import ArrayLike

Sums = Mapping[str, "np.ndarray"]


@dataclass(frozen=True)
class Aggregate:
    """A named function from summed statistics to one number.

    Attributes:
        statistics: the columns that a scorer must supply. Empty if their number is up to the scorer
            (n-gram orders, labels); they are then named `<prefix>_<number>`.
        unit: shown beside the number; empty for a share of 1.
        of: the statistic that marks the examples which the metric is about; or, as `of_1`, `of_2`
            ..., the examples of each class. It depends on the rows, not on the answers. The
            confidence interval is computed from these examples only, and a group without any has
            no such metric. Empty: the metric is about all examples.
        bounds: the least and the greatest possible value.
    """

    name: str
    statistics: tuple[str, ...]
    compute: Callable[[Sums], np.ndarray]
    unit: str = ""
    of: str = ""
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def counts(self, statistic: str) -> bool:
        """True if a statistic marks the examples which the metric is about (see `of`)."""
        return bool(self.of) and (statistic == self.of or statistic.startswith(f"{self.of}_"))


def _mean(sums: Sums) -> np.ndarray:
    return sums["value"] / sums["n"]


def _perplexity(sums: Sums) -> np.ndarray:
    """exp of the token-weighted mean negative log-likelihood (nats per token)."""
    import numpy as np

    return np.exp(sums["nll"] / sums["tokens"])


def _bits_per_byte(sums: Sums) -> np.ndarray:
    """Negative log-likelihood in bits per UTF-8 byte; NaN if there are no bytes."""
    import numpy as np

    sizes = np.asarray(sums["bytes"], float)
    return np.asarray(sums["nll"] / np.log(2) / np.where(sizes > 0, sizes, np.nan))


def _per_token(sums: Sums) -> np.ndarray:
    """A sum over tokens, divided by their number; 0 if no token was scored."""
    return _over(sums["total"], sums["tokens"])


def _ratio(sums: Sums) -> np.ndarray:
    """The numerator's sum over the denominator's; 0 if the latter is 0."""
    return _over(sums["numerator"], sums["denominator"])


def _known_mean(sums: Sums) -> np.ndarray:
    """The mean over the examples whose value is known; NaN if none is. The value of the others is
    0."""
    import numpy as np

    known = np.asarray(sums["known"], float)
    return np.asarray(sums["value"] / np.where(known > 0, known, np.nan))


def _over(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """The quotient, element by element; 0 where the denominator is 0."""
    import numpy as np

    top, bottom = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.asarray(np.divide(top, bottom, out=np.zeros(top.shape), where=bottom != 0))


def _orders(sums: Sums, prefix: str) -> list[np.ndarray]:
    """The columns `<prefix>_1`, `<prefix>_2` ..., as many as there are."""
    import numpy as np

    columns: list[np.ndarray] = []
    while f"{prefix}_{len(columns) + 1}" in sums:
        columns.append(np.asarray(sums[f"{prefix}_{len(columns) + 1}"], np.float64))
    return columns


_LOG_ZERO = -9999999999.0
"""The number that sacrebleu uses as the logarithm of 0."""


def _bleu(sums: Sums, *, smooth: bool, effective: bool) -> np.ndarray:
    """BLEU of 0 to 100 (Papineni et al., 2002, aclanthology.org/P02-1040) from sums of sys_len,
    ref_len, correct_k and total_k.

    Args:
        smooth: exponential smoothing, method 3 of Chen & Cherry (2014, aclanthology.org/W14-3346).
        effective: leave n-gram orders out of the mean if the outputs have no such n-gram.
    """
    import numpy as np

    lengths, references = np.asarray(sums["sys_len"], float), np.asarray(sums["ref_len"], float)
    correct, total = _orders(sums, "correct"), _orders(sums, "total")
    short = (lengths < references) & (lengths > 0)
    brevity = np.where(short, np.exp(1 - np.where(short, _over(references, lengths), 1.0)), 1.0)
    brevity = np.where((lengths < references) & (lengths == 0), 0.0, brevity)
    alive, halved = np.ones(lengths.shape, bool), np.ones(lengths.shape)
    logs, used = np.zeros(lengths.shape), np.zeros(lengths.shape)
    for hits, all_ in zip(correct, total, strict=True):
        alive = alive & (all_ > 0)
        missed = alive & (hits == 0)
        halved = np.where(missed, halved * 2, halved)
        chance = _over(100.0, halved * all_) if smooth else np.zeros(lengths.shape)
        precision = np.where(missed, chance, _over(100.0 * hits, all_)) * alive
        log = np.where(precision > 0, np.log(np.where(precision > 0, precision, 1.0)), _LOG_ZERO)
        counted = alive if effective else np.ones(lengths.shape, bool)
        logs, used = logs + np.where(counted, log, 0.0), used + counted
    matched = np.sum(correct, axis=0) > 0
    return np.where(matched, brevity * np.exp(_over(logs, used)), 0.0)


_BETA_SQUARED = 4.0
"""beta squared, with beta = 2: recall weighs twice as much as precision, the default of chrF."""


def _chrf(sums: Sums) -> np.ndarray:
    """chrF of 0 to 100 (Popovic, 2015, aclanthology.org/W15-3049) from sums of hyp_k, ref_k and
    match_k, one k for each character and word order. An order is left out if the outputs or the
    references have no n-gram of it."""
    import numpy as np

    columns = zip(*(_orders(sums, name) for name in ("hyp", "ref", "match")), strict=True)
    precision = recall = orders = np.zeros(())
    for generated, references, hits in columns:
        both = (generated > 0) & (references > 0)
        precision = precision + np.where(both, _over(hits, generated), 0.0)
        recall = recall + np.where(both, _over(hits, references), 0.0)
        orders = orders + both
    precision, recall = _over(precision, orders), _over(recall, orders)
    top = (1 + _BETA_SQUARED) * precision * recall
    return 100 * _over(top, _BETA_SQUARED * precision + recall)


def _chrf_smoothed(sums: Sums) -> np.ndarray:
    """chrF as in chrF++.py: the mean of the F scores of all orders, with 1e-16 for an undefined
    score."""
    import numpy as np

    tiny, scores = 1e-16, []
    for generated, references, hits in zip(
        *(_orders(sums, name) for name in ("hyp", "ref", "match")), strict=True
    ):
        precision = np.where(generated > 0, _over(hits, generated), tiny)
        recall = np.where(references > 0, _over(hits, references), tiny)
        bottom = _BETA_SQUARED * precision + recall
        score = _over((1 + _BETA_SQUARED) * precision * recall, bottom)
        scores.append(np.where(bottom > 0, score, tiny))
    return np.asarray(100 * np.sum(scores, axis=0) / len(scores))


def _ter(sums: Sums) -> np.ndarray:
    """TER as edits per 100 reference words (Snover et al., 2006,
    aclanthology.org/2006.amta-papers.25); 100 if there are edits but no reference words."""
    import numpy as np

    edits, words = np.asarray(sums["edits"], float), np.asarray(sums["ref_length"], float)
    return 100 * np.where(words > 0, _over(edits, words), np.where(edits > 0, 1.0, 0.0))


def _macro_f1(sums: Sums) -> np.ndarray:
    """Mean over labels of F1 from sums of tp_k, fp_k and fn_k. A label that neither occurs nor is
    predicted counts as 0, as in scikit-learn's f1_score(labels=..., zero_division=0)."""
    import numpy as np

    hits, false, missed = (_orders(sums, name) for name in ("tp", "fp", "fn"))
    scores = [_over(2 * h, 2 * h + f + m) for h, f, m in zip(hits, false, missed, strict=True)]
    return np.asarray(np.mean(scores, axis=0))


def _share(sums: Sums) -> np.ndarray:
    """The share of hits among the examples that count; 0 if there are none."""
    return _over(sums["hits"], sums["of"])


def _balanced_accuracy(sums: Sums) -> np.ndarray:
    """Mean recall over the classes that occur (Brodersen et al., 2010,
    doi.org/10.1109/ICPR.2010.764), from sums of right_k and of_k, as in scikit-learn's
    balanced_accuracy_score."""
    import numpy as np

    right, sizes = _orders(sums, "right"), _orders(sums, "of")
    total = np.sum([_over(hits, size) for hits, size in zip(right, sizes, strict=True)], axis=0)
    return _over(total, np.sum([size > 0 for size in sizes], axis=0))


def _mcc(sums: Sums) -> np.ndarray:
    """Matthews' correlation of two classes (Matthews, 1975, doi.org/10.1016/0005-2795(75)90109-9)
    from sums of tp, tn, fp and fn; 0 where a class is never right or never predicted, as
    scikit-learn's matthews_corrcoef has it."""
    import numpy as np

    tp, tn, fp, fn = (np.asarray(sums[name], float) for name in ("tp", "tn", "fp", "fn"))
    margins = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return _over(tp * tn - fp * fn, np.sqrt(margins))


_SHARE, _PERCENT, _AMOUNT, _PERPLEXITY = (0.0, 1.0), (0.0, 100.0), (0.0, math.inf), (1.0, math.inf)


def _bleu_variants() -> list[Aggregate]:
    """`bleu` is sacrebleu's default; the others switch smoothing off or effective order on."""
    return [
        Aggregate(
            f"bleu{'' if smooth else '_unsmoothed'}{'_effective' if effective else ''}",
            (),
            partial(_bleu, smooth=smooth, effective=effective),
            bounds=_PERCENT,
        )
        for smooth in (True, False)
        for effective in (False, True)
    ]


AGGREGATES: dict[str, Aggregate] = {
    a.name: a
    for a in (
        Aggregate("mean", ("value",), _mean),
        Aggregate("perplexity", ("nll", "tokens"), _perplexity, bounds=_PERPLEXITY),
        Aggregate("bits_per_byte", ("nll", "bytes"), _bits_per_byte, bounds=_AMOUNT),
        Aggregate("per_token", ("total", "tokens"), _per_token),
        Aggregate("known_mean", ("value", "known"), _known_mean),
        Aggregate("ratio", ("numerator", "denominator"), _ratio, bounds=_SHARE),
        *_bleu_variants(),
        Aggregate("chrf", (), _chrf, bounds=_PERCENT),
        Aggregate("chrf_smoothed", (), _chrf_smoothed, bounds=_PERCENT),
        Aggregate("ter", ("edits", "ref_length"), _ter, bounds=_AMOUNT),
        Aggregate("macro_f1", (), _macro_f1, bounds=_SHARE),
        Aggregate("share", ("hits", "of"), _share, of="of", bounds=_SHARE),
        Aggregate("mcc", ("tp", "tn", "fp", "fn"), _mcc, bounds=(-1.0, 1.0)),
        Aggregate("balanced_accuracy", (), _balanced_accuracy, of="of", bounds=_SHARE),
    )
}
