"""Plots of quality against cost, and of learning against forgetting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.comparison.result import Comparison, Estimate, VariantResult
from harness.report.measures import Measure, default_axes, front_of, measures
from harness.report.plots.drawing import WIDE, Drawing, Point, scatter
from harness.report.tables.columns import Column, columns, forgetting, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_UNITS = {"seconds": "seconds", "count": "", "rate": "tokens/s", "metric": ""}


def tradeoffs(comparison: Comparison) -> list[Drawing]:
    """Plots of the headline metric against training time and against memory, with their fronts."""
    numbered = [(n, v) for n, v in enumerate(comparison.variants, 1) if v.has_result]
    measured = measures(comparison, [variant for _, variant in numbered])
    axes = default_axes(measured)
    if axes is None:
        return []
    memory = next((m for m in measured if m.key in ("state_bytes", "peak_device_bytes")), None)
    crosses = [axes[0]] + ([memory] if memory not in (None, axes[0]) else [])
    return [_tradeoff(cross, axes[1], numbered) for cross in crosses if cross is not None]


def _tradeoff(x: Measure, y: Measure, numbered: list[tuple[int, VariantResult]]) -> Drawing:
    scale, unit = 1, _UNITS.get(x.kind, "")
    if x.kind == "bytes":
        large = max(value or 0 for value in x.values) > 4 * 2**30
        scale, unit = (2**30, "GiB") if large else (2**20, "MiB")
    front = front_of(x, y)
    points = [
        (number, variant, cost / scale, Estimate(value, *(ends or (None, None))))
        for (number, variant), cost, value, ends in zip(
            numbered, x.values, y.values, y.ends, strict=True
        )
        if cost is not None and value is not None
    ]

    def draw(axes: Axes) -> None:
        costs = [cost for *_, cost, _ in points]
        positive = [cost for cost in costs if cost > 0]
        if positive and max(positive) > WIDE * min(positive):
            if min(costs) > 0:
                axes.set_xscale("log")
            else:
                axes.set_xscale("symlog", linthresh=10 ** math.floor(math.log10(min(positive))))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        best = [(x.values[i], y.values[i]) for i in front]
        axes.plot(
            [cost / scale for cost, _ in best if cost is not None],
            [value for _, value in best if value is not None],
            drawstyle="steps-post", color="black", linewidth=0.8, linestyle="--", alpha=0.6,
            zorder=0,
        )  # fmt: skip
        scatter(
            axes,
            [Point(n, cost, y, hollow=variant.untrained) for n, variant, cost, y in points],
            {numbered[i][0] for i in front},
        )
        axes.margins(x=0.08, y=0.1)

    return Drawing(
        f"tradeoff-{'time' if x.kind == 'seconds' else 'memory'}",
        f"{y.name} against {x.name.rpartition(' ')[0]}",
        "Bars are 95% intervals. The dashed line is the Pareto front of the estimates: nothing is"
        " better than its variants in both. Hollow marks are uses of the untrained model.",
        draw,
        tuple(number for number, *_ in points),
        (f"{x.name.rpartition(' ')[0]}{f', {unit}' if unit else ''}", y.name),
    )


def forgetting_plot(comparison: Comparison) -> list[Drawing]:
    """The plot of what variants learnt over what they forgot, as differences from the baseline."""
    metrics, kept, rows = columns(comparison), forgetting(comparison), table(comparison)
    if not kept or metrics[0] in kept:
        return []
    points = []
    for number, variant in enumerate(comparison.variants, 1):
        learnt = rows.get((variant.group, *_trained_for(metrics, variant).key))
        lost = rows.get((variant.group, *kept[0].key))
        if learnt and lost and learnt.difference and lost.difference:
            points.append((number, variant, learnt.difference, lost.difference))
    if not points:
        return []

    def draw(axes: Axes) -> None:
        axes.axhline(0, color="black", linewidth=0.6, linestyle=":", zorder=0)
        axes.axvline(0, color="black", linewidth=0.6, linestyle=":", zorder=0)
        scatter(
            axes,
            [
                Point(number, lost.value, learnt, lost, hollow=variant.untrained)
                for number, variant, learnt, lost in points
            ],
            set(),
        )
        axes.margins(x=0.08, y=0.1)

    up, across = metrics[0], kept[0]
    several = any(_trained_for(metrics, variant) is not up for _, variant, *_ in points)
    where = " on the rows each was trained for" if several else ""
    return [
        Drawing(
            "forgetting",
            f"Learning against forgetting: {up.metric if several else up.name} over {across.name}",
            f"Change from {comparison.baseline} in {up.metric if several else up.name}"
            f" {up.arrow}{where}, up, over its change in {across.name} {across.arrow}, across, with"
            " 95% intervals. Dotted lines: no change.",
            draw,
            tuple(number for number, *_ in points),
            (f"change in {across.name} {across.arrow}", f"change in {up.metric} {up.arrow}"),
        )
    ]


def _trained_for(metrics: list[Column], variant: VariantResult) -> Column:
    """The headline metric on the rows that the variant was trained for, if the suite has it."""
    asked = [c for c in metrics if c.metric == metrics[0].metric]
    same = [c for c in asked if c.evaluation == variant.labels.get("data")]
    same = same or [c for c in asked if variant.trained and variant.trained_on(c.evaluation)]
    return same[0] if same else metrics[0]
