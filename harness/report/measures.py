"""The measures by which a report weighs variants: metrics and costs, and their Pareto fronts."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from harness.comparison.pareto import front
from harness.comparison.result import Comparison, VariantResult
from harness.core.text import label
from harness.report import cheaper, numbers
from harness.report.tables.columns import COSTS, Cost, columns, table

_METRICS = 8
"""How many metrics a reader can choose from; each pair of measures has a front."""


@dataclass(frozen=True)
class Measure:
    """A metric or a cost of all variants.

    Attributes:
        kind: `metric`, or how a cost is written: `seconds`, `bytes`, `count`, `rate`.
        up: higher is better.
        values, ends, texts: one for each variant: the value, its interval, and both as text.
    """

    key: str
    name: str
    kind: str
    up: bool
    values: tuple[float | None, ...]
    ends: tuple[tuple[float, float] | None, ...]
    texts: tuple[str, ...]


def measures(comparison: Comparison, variants: list[VariantResult]) -> list[Measure]:
    """The measures that at least two variants have: the headline metric, the metrics of forgetting,
    other metrics, and costs."""
    metrics = columns(comparison)
    ordered = [
        *metrics[:1],
        *(c for c in metrics[1:] if not c.quality),
        *(c for c in metrics[1:] if c.quality),
    ]
    rows, result = table(comparison), []
    for column in ordered[:_METRICS]:
        metric_rows = [rows.get((variant.group, *column.key)) for variant in variants]
        estimates = [row.estimate if row else None for row in metric_rows]
        result.append(
            Measure(
                f"{column.metric} {column.evaluation}",
                f"{column.name} {column.arrow}" + (f" ({column.unit})" if column.unit else ""),
                "metric",
                column.up,
                tuple(_finite(e.value) if e else None for e in estimates),
                tuple(_ends(e.low, e.high) if e else None for e in estimates),
                tuple(numbers.both(e) if e else numbers.MISSING for e in estimates),
            )
        )
    marked = cheaper.not_comparable(comparison)
    result += [_cost(cost, variants, marked) for cost in COSTS]
    return [m for m in result if sum(value is not None for value in m.values) > 1]


def _cost(cost: Cost, variants: list[VariantResult], marked: cheaper.Marked) -> Measure:
    """A cost of all variants; a time that cannot be compared with the others is left out."""
    up = cost.up
    amounts = tuple(
        None if (variant.group, cost.key) in marked else cost.amount(variant)
        for variant in variants
    )
    texts = tuple(
        "none" if amount == 0 and not variant.trained else cheaper.in_words(cost, variant, marked)
        for amount, variant in zip(amounts, variants, strict=True)
    )
    name = f"{cost.name} {'↑' if up else '↓'}"
    ends = tuple(
        variant.spread.get(cost.key) if amount is not None else None
        for amount, variant in zip(amounts, variants, strict=True)
    )
    return Measure(cost.key, name, cost.kind, up, amounts, ends, texts)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ends(low: float | None, high: float | None) -> tuple[float, float] | None:
    if low is None or high is None or not math.isfinite(low + high):
        return None
    return low, high


def front_of(x: Measure, y: Measure) -> list[int]:
    """The Pareto front of two measures, by the estimates: indexes of variants, sorted by x."""
    return front(x.values, y.values, x_up=x.up, y_up=y.up)


def payload(comparison: Comparison) -> dict[str, Any]:
    """The measures and the front of every two, for the page's script.

    It has the variants with a result, and is empty if there are fewer than two measures.
    """
    numbered = [(n, v) for n, v in enumerate(comparison.variants, 1) if v.has_result]
    measured = measures(comparison, [variant for _, variant in numbered])
    if len(measured) < 2:
        return {}
    return {
        "numbers": [number for number, _ in numbered],
        "names": [label(variant.group) for _, variant in numbered],
        "trained": [not variant.untrained for _, variant in numbered],
        "measures": [
            {"key": m.key, "name": m.name, "kind": m.kind, "up": m.up, "values": _round(m.values),
             "ends": [_round(e) if e else None for e in m.ends], "texts": m.texts}
            for m in measured
        ],
        "fronts": {
            f"{i},{j}": front_of(measured[i], measured[j])
            for i, j in itertools.permutations(range(len(measured)), 2)
        },
    }  # fmt: skip


def _round(values: tuple[float | None, ...]) -> list[float | None]:
    """The values with seven digits: nobody sees more, and they keep the page small."""
    return [None if value is None else float(f"{value:.7g}") for value in values]


def default_axes(measured: list[Measure]) -> tuple[Measure, Measure] | None:
    """The axes (x, y) of the plot of quality against cost: training time, or memory if no time is
    known; and the headline metric."""
    for key in ("train_seconds", "state_bytes", "peak_device_bytes"):
        for measure in measured:
            if measure.key == key and measure is not measured[0]:
                return measure, measured[0]
    return None
