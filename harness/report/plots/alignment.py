"""The plot of reward gained against capability lost: one point for each aligned variant."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.comparison.result import Comparison
from harness.core.text import label
from harness.report.plots.drawing import Drawing, Point, scatter
from harness.report.tables import alignment as tax

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEY = "alignment"


def tax_plot(comparison: Comparison) -> list[Drawing]:
    """The plot, with both measures as differences from each variant's start.

    The list is empty if no variant has both measures.
    """
    up, across = tax.gain(comparison), tax.loss(comparison)
    if up is None or across is None:
        return []
    numbered = {variant.group: n for n, variant in enumerate(comparison.variants, 1)}
    points, left_out = [], []
    for entry in comparison.taxes:
        gained, lost = tax.row_of(entry, up), tax.row_of(entry, across)
        rise, moved = (row.difference if row else None for row in (gained, lost))
        if rise and moved and math.isfinite(rise.value) and math.isfinite(moved.value):
            points.append(Point(numbered[entry.group], moved.value, rise, moved))
        else:
            left_out.append(label(entry.group))
    if not points:
        return []

    def draw(axes: Axes) -> None:
        axes.axhline(0, color="black", linewidth=0.6, linestyle=":", zorder=0)
        axes.axvline(0, color="black", linewidth=0.6, linestyle=":", zorder=0)
        scatter(axes, points, set())
        axes.margins(x=0.08, y=0.1)

    names = [f"{label(column.metric)} {'↑' if column.up else '↓'}" for column in (up, across)]
    half = " (from one half)" if up.kind == "preference" else ""
    where = f" on {label(across.evaluation)}" if across.kind == "answers" else ""
    absent = f" Not drawn, as a measure is missing: {', '.join(left_out)}." if left_out else ""
    return [
        Drawing(
            KEY,
            f"Gained against lost: {names[0]} over {names[1]}",
            f"Change of each variant from its own start: in {names[0]}{half}, up, over the change"
            f" in {names[1]}{where}, across, with 95% intervals. Where the dotted lines cross,"
            f" nothing was gained and nothing lost.{absent}",
            draw,
            tuple(point.number for point in points),
            (f"change in {names[1]}", f"change in {names[0]}"),
        )
    ]
