"""From per-example sufficient statistics to a metric: named, torch-free, vectorised.

Each function takes a mapping of statistic name -> array whose **last** axis is examples already
summed (shape `(...,)`), so that the same code serves the point estimate (scalars) and a bootstrap
(one value per resample). `n` counts examples, or the resample's total weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # numpy takes 0.1 s to import, which `harness --help` need not pay
    import numpy as np

Sums = Mapping[str, "np.ndarray"]


@dataclass(frozen=True)
class Aggregate:
    """A named way from summed statistics to one number.

    Attributes:
        statistics: the columns a scorer must supply.
        unit: shown beside the number; empty for a share of 1.
    """

    name: str
    statistics: tuple[str, ...]
    compute: Callable[[Sums], np.ndarray]
    unit: str = ""


def _mean(sums: Sums) -> np.ndarray:
    return sums["value"] / sums["n"]


def _perplexity(sums: Sums) -> np.ndarray:
    """exp of the token-weighted mean negative log-likelihood (nats per token)."""
    import numpy as np

    return np.exp(sums["nll"] / sums["tokens"])


def _ratio(sums: Sums) -> np.ndarray:
    return sums["numerator"] / sums["denominator"]


AGGREGATES: dict[str, Aggregate] = {
    a.name: a
    for a in (
        Aggregate("mean", ("value",), _mean),
        Aggregate("perplexity", ("nll", "tokens"), _perplexity),
        Aggregate("ratio", ("numerator", "denominator"), _ratio),
    )
}
