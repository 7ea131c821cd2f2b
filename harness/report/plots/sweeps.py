"""Plots of the headline metric against each hyper-parameter that is an axis of the matrix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.comparison.result import Comparison, Estimate
from harness.core.text import label
from harness.report.plots.drawing import WIDE, Drawing, Point, mark, scatter
from harness.report.plots.svg import COLOURS
from harness.report.tables.columns import columns, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Setting = tuple[float, int, Estimate]
"""(the hyper-parameter's value, the variant's number, the metric)"""


def sweeps(comparison: Comparison) -> list[Drawing]:
    """A plot for each axis of numbers, with a curve for variants that differ in nothing else."""
    metrics = columns(comparison)
    if not metrics:
        return []
    names = dict.fromkeys(n for v in comparison.variants for n in v.labels if "." in n)
    plots = []
    for index, name in enumerate(names):
        curves = _curves(comparison, name)
        if curves:
            top = metrics[0]
            plots.append(
                Drawing(
                    f"sweep{index}",
                    label(f"{top.name} {top.arrow} against {name}"),
                    "On test rows, with 95% intervals. A line joins variants that differ in nothing"
                    " else; choosing by it would be choosing on the test rows.",
                    _draw(curves),
                    tuple(number for curve in curves for _, number, _ in curve),
                    (label(name), label(f"{top.name} {top.arrow}")),
                )
            )
    return plots


def _curves(comparison: Comparison, name: str) -> list[list[_Setting]]:
    top, rows = columns(comparison)[0], table(comparison)
    curves: dict[tuple[tuple[str, str], ...], list[_Setting]] = defaultdict(list)
    for number, variant in enumerate(comparison.variants, 1):
        row = rows.get((variant.group, *top.key))
        try:
            value = float(variant.labels.get(name, ""))
        except ValueError:
            continue  # the option is a word or is not set, so that it has no place on the axis
        if row is not None:
            rest = tuple(sorted((k, v) for k, v in variant.labels.items() if k != name))
            curves[rest].append((value, number, row.estimate))
    return [sorted(curve, key=lambda p: p[0]) for curve in curves.values() if len(curve) > 1]


def _draw(curves: list[list[_Setting]]) -> Callable[[Axes], None]:
    values = sorted({value for curve in curves for value, *_ in curve})

    def draw(axes: Axes) -> None:
        if values[0] > 0 and values[-1] > WIDE * values[0]:
            axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for curve in curves:
            hue = COLOURS[mark(curve[0][1])[0]]
            axes.plot([v for v, *_ in curve], [e.value for *_, e in curve], color=hue, linewidth=1)
        points = [Point(n, value, estimate) for c in curves for value, n, estimate in c]
        scatter(axes, points, set())
        axes.margins(x=0.08, y=0.1)

    return draw
