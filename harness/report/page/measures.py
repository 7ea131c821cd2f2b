"""What variants are weighed by: metrics and costs, with the Pareto front of every two."""

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
"""Metrics to choose from; every two measures have a front."""


@dataclass(frozen=True)
class Measure:
    """One respect in which variants differ; its figures stand in the variants' order.

    Attributes:
        kind: `metric`, or how a cost is written: `seconds`, `bytes`, `count`, `rate`.
    """

    key: str
    name: str
    kind: str
    up: bool
    values: tuple[float | None, ...]
    ends: tuple[tuple[float, float] | None, ...]
    texts: tuple[str, ...]


def measures(comparison: Comparison, variants: list[VariantResult]) -> list[Measure]:
    """The headline metric first, then what is forgotten, other metrics, and costs."""
    found = columns(comparison)
    ordered = [
        *found[:1],
        *(c for c in found[1:] if not c.quality),
        *(c for c in found[1:] if c.quality),
    ]
    rows, made = table(comparison), []
    for column in ordered[:_METRICS]:
        own = [rows.get((variant.group, *column.key)) for variant in variants]
        made.append(
            Measure(
                f"{column.metric} {column.evaluation}",
                f"{column.name} {column.arrow}" + (f" ({column.unit})" if column.unit else ""),
                "metric",
                column.up,
                tuple(_finite(row.estimate.value) if row else None for row in own),
                tuple(_ends(row.estimate.low, row.estimate.high) if row else None for row in own),
                tuple(numbers.both(row.estimate) if row else numbers.MISSING for row in own),
            )
        )
    marked = cheaper.unlike(comparison)
    made += [_cost(cost, variants, marked) for cost in COSTS]
    return [m for m in made if sum(value is not None for value in m.values) > 1]


def _cost(cost: Cost, variants: list[VariantResult], marked: cheaper.Marked) -> Measure:
    """A time that cannot be compared with the others' has no place among them."""
    up = cost.kind == "rate"
    amounts = tuple(
        None if (variant.group, cost.key) in marked else cost.amount(variant)
        for variant in variants
    )
    texts = tuple(
        "none" if amount == 0 and not variant.trained else cheaper.text(cost, variant, marked)
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
    """The variants that no other equals in both and beats in one, by their estimates."""
    return front(x.values, y.values, x_up=x.up, y_up=y.up)


def payload(comparison: Comparison) -> dict[str, Any]:
    """The measures of variants that have a result, and every two's front, for the page's script.

    Empty where there are not two measures to weigh.
    """
    numbered = [(n, v) for n, v in enumerate(comparison.variants, 1) if v.has_result]
    made = measures(comparison, [variant for _, variant in numbered])
    if len(made) < 2:
        return {}
    return {
        "numbers": [number for number, _ in numbered],
        "names": [label(variant.group) for _, variant in numbered],
        "trained": [variant.trained for _, variant in numbered],
        "measures": [
            {"key": m.key, "name": m.name, "kind": m.kind, "up": m.up, "values": _round(m.values),
             "ends": [_round(e) if e else None for e in m.ends], "texts": m.texts}
            for m in made
        ],
        "fronts": {
            f"{i},{j}": front_of(made[i], made[j])
            for i, j in itertools.permutations(range(len(made)), 2)
        },
    }  # fmt: skip


def _round(values: tuple[float | None, ...]) -> list[float | None]:
    """Seven digits: nobody sees more, and the page is the smaller for it."""
    return [None if value is None else float(f"{value:.7g}") for value in values]


def default_axes(made: list[Measure]) -> tuple[Measure, Measure] | None:
    """Training time across, the headline metric up; memory where no time is known."""
    for key in ("train_seconds", "state_bytes", "peak_device_bytes"):
        for measure in made:
            if measure.key == key and measure is not made[0]:
                return measure, made[0]
    return None
