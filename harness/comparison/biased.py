"""Notes on judges: how much the order and the length of answers matter to them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.comparison.binomial import share
from harness.comparison.intervals import CONFIDENCE
from harness.comparison.result import Estimate
from harness.planning.graph import Plan
from harness.store.stage import Record


def bias_notes(planned: Plan, records: Mapping[str, Record]) -> Iterator[str]:
    """A sentence for each judged score over the contests of all variants, taken as independent."""
    counts: dict[str, list[Mapping[str, Any]]] = {}
    for path in planned.paths:
        for scored in path.scores:
            record = records.get(scored.stage.key)
            biases = record.provenance.get("scorer", {}).get("biases") if record else None
            if biases:
                name = f"{scored.label or scored.scorer} on {scored.evaluation}"
                counts.setdefault(name, []).append(biases)
    for name, several in counts.items():
        if parts := list(_parts(several)):
            yield f"{name}: the judge's {'; '.join(parts)} (95%, contests as if independent)."


def _parts(several: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    both, flips, unequal, longer = (
        sum(biases[name] for biases in several) for name in ("both", "flips", "unequal", "longer")
    )
    if both:
        yield f"verdict changes with the order in {_text(share(flips, both))} of {both} contests"
        total, squares = (sum(biases["first"][i] for biases in several) for i in (0, 1))
        yield f"mean probability of the first place is {_text(_mean(total, squares, both))}"
    if unequal:
        yield f"choice is the longer answer in {_text(share(longer, unequal))} of {unequal}"


def _mean(total: float, squares: float, n: int) -> Estimate:
    """A mean of shares with its interval by Student's t, from their sum and that of squares."""
    from scipy import stats

    mean = total / n
    if n < 2:
        return Estimate(mean)
    deviation = math.sqrt(max(0.0, squares - n * mean**2) / (n - 1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(n)
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))


def _text(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.0%}"
    return f"{estimate.value:.0%} ({estimate.low:.0%} to {estimate.high:.0%})"
