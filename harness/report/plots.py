"""Quality against cost, and losses by step, as SVG that takes the page's colours and fonts.

No name is drawn: variants carry the number they have in the results table, so nothing a suite or a
model wrote gets into the drawing.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from harness.compare.result import Comparison, Row, VariantResult
from harness.report.columns import columns, table
from harness.report.svg import COLOURS, inline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = {"●": "o", "■": "s", "▲": "^", "▼": "v", "◆": "D", "★": "*", "✚": "P"}
_DASHES = ("-", "--", ":", "-.")
WIDE = 20.0
"""Ratio of the longest to the shortest training from which the axis is logarithmic."""
_LABELLED = 8
"""Curves end close together: more numbers would cover one another."""
_RC: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "harness", "font.size": 9.5, "axes.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "axes.formatter.use_mathtext": False,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "path.simplify": False,
}  # fmt: skip


def mark(number: int) -> tuple[int, str]:
    """Colour and shape of the variant with this number; 49 differ."""
    index = number - 1
    shift = index // len(COLOURS)
    return index % len(COLOURS), list(_MARKERS)[(index + shift) % len(_MARKERS)]


def marker(number: int) -> str:
    """Matplotlib's marker of the variant with this number."""
    return _MARKERS[mark(number)[1]]


def quality_against_cost(comparison: Comparison) -> str:
    """The headline metric with its interval over training seconds; empty where nothing trained."""
    found = columns(comparison)
    if not found:
        return ""
    rows, points = table(comparison), []
    for number, variant in enumerate(comparison.variants, 1):
        row = rows.get((variant.group, *found[0].key))
        cost = variant.cost.get("train_seconds") if variant.trained else 0.0
        if row is not None and cost is not None and math.isfinite(row.estimate.value):
            points.append((number, variant, row, cost))
    times = [cost for _, variant, _, cost in points if variant.trained and cost > 0]
    if not times:
        return ""

    def draw(axes: Axes) -> None:
        axes.set_xlabel("training seconds")
        if max(times) > WIDE * min(times):
            axes.set_xscale("symlog", linthresh=10 ** math.floor(math.log10(min(times))))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        for number, variant, row, cost in points:
            _point(axes, number, variant, row, cost)
        axes.margins(x=0.08, y=0.1)
        if any(not variant.trained for _, variant, _, _ in points):
            axes.axvline(0, color="black", linewidth=0.6, linestyle=":", zorder=0)
            axes.annotate(
                "untrained", (0, 1), (4, 0), xycoords=("data", "axes fraction"), va="top",
                textcoords="offset points", fontsize=8,
            )  # fmt: skip

    return svg(draw, "cost")


def _point(axes: Axes, number: int, variant: VariantResult, row: Row, cost: float) -> None:
    colour, shape = mark(number)
    estimate, hue = row.estimate, COLOURS[colour]
    if estimate.low is not None and estimate.high is not None:
        axes.plot([cost, cost], [estimate.low, estimate.high], color=hue, linewidth=1.4)
    axes.plot(
        [cost], [estimate.value], marker=_MARKERS[shape], markersize=7, color=hue, linestyle="none",
        markerfacecolor=hue if variant.trained else "none", markeredgewidth=1.4,
    )  # fmt: skip
    axes.annotate(
        str(number), (cost, estimate.value), (7, 0), textcoords="offset points", va="center"
    )


def learning_curves(comparison: Comparison) -> str:
    """Loss by step of every training run; empty where no losses were kept."""
    runs = [
        (number, [point for point in curve if math.isfinite(point[1])])
        for number, variant in enumerate(comparison.variants, 1)
        for curve in variant.losses
    ]
    runs = [(number, curve) for number, curve in runs if curve]
    if not runs:
        return ""
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Axes) -> None:
        axes.set_xlabel("step")
        axes.set_ylabel("training loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        named: set[int] = set()
        for number, curve in runs:
            colour, _ = mark(number)
            steps, values = zip(*curve, strict=True)
            dash = _DASHES[(number - 1) // len(COLOURS) % len(_DASHES)]
            axes.plot(steps, values, color=COLOURS[colour], linewidth=1.1, linestyle=dash)
            if number not in named and len(comparison.variants) <= _LABELLED:
                axes.annotate(
                    str(number), (steps[-1], values[-1]), (4, 0), textcoords="offset points",
                    va="center",
                )  # fmt: skip
            named.add(number)

    return svg(draw, "losses")


def svg(draw: Any, name: str) -> str:
    """Draw on one axes and save; the same input gives the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        figure: Figure = Figure(figsize=(4.8, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="y", linewidth=0.4, alpha=0.25, color="black")
        axes.set_axisbelow(True)
        draw(axes)
        buffer = io.BytesIO()
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return inline(buffer.getvalue(), name)
