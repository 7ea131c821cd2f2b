"""Drawings of the report: quality against cost, learning against forgetting, losses by step.

Variants carry the number they have in the results table; names stand in the legend beside.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.comparison.result import Comparison, Estimate, VariantResult
from harness.report.page.measures import Measure, default_axes, front_of, measures
from harness.report.plots.svg import COLOURS
from harness.report.tables.columns import Column, columns, forgetting, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = {"●": "o", "■": "s", "▲": "^", "▼": "v", "◆": "D", "★": "*", "✚": "P"}
_DASHES = ("-", "--", ":", "-.")
WIDE = 20.0
"""Ratio of the longest to the shortest training from which the axis is logarithmic."""
_LABELLED = 8
"""Curves end close together: more numbers would cover one another."""
_MARKED = 60
"""Points that are told apart by mark and number; of a longer front, as many spread along it."""
_SMOOTHED = 5
"""Shares of a run that its losses are averaged over: rows grouped by length come in waves."""
_CURVES = 40
"""Variants whose losses are drawn; more lines cannot be told apart."""
_UNITS = {"seconds": "seconds", "count": "", "rate": "tokens/s", "metric": ""}


@dataclass(frozen=True)
class Drawing:
    """A plot before it is drawn.

    Attributes:
        key: names its file. numbers: of the variants in it, for a legend.
        labels: what stands on the axes, across and up; the page says it in the title instead.
    """

    key: str
    title: str
    caption: str
    draw: Callable[[Axes], None]
    numbers: tuple[int, ...]
    labels: tuple[str, str]


def mark(number: int) -> tuple[int, str]:
    """Colour and shape of the variant with this number; 49 differ."""
    index = number - 1
    shift = index // len(COLOURS)
    return index % len(COLOURS), list(_MARKERS)[(index + shift) % len(_MARKERS)]


def marker(number: int) -> str:
    """Matplotlib's marker of the variant with this number."""
    return _MARKERS[mark(number)[1]]


def tradeoffs(comparison: Comparison) -> list[Drawing]:
    """The headline metric against training time, and against memory, with their Pareto fronts."""
    numbered = [(n, v) for n, v in enumerate(comparison.variants, 1) if v.has_result]
    made = measures(comparison, [variant for _, variant in numbered])
    axes = default_axes(made)
    if axes is None:
        return []
    memory = next((m for m in made if m.key in ("state_bytes", "peak_device_bytes")), None)
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
            [Point(n, cost, y, hollow=not variant.trained) for n, variant, cost, y in points],
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


@dataclass(frozen=True)
class Point:
    """One variant in a plot of two measures, with its intervals."""

    number: int
    x: float
    y: Estimate
    across: Estimate | None = None
    hollow: bool = False


def scatter(axes: Axes, points: list[Point], front: set[int]) -> None:
    """Every point with its mark, number and intervals; of very many only the front's, the others
    as a cloud."""
    told = _spread([p for p in points if p.number in front or len(points) <= _MARKED])
    cloud = [p for p in points if p.number not in told]
    for line in ("vlines", "hlines") if cloud else ():
        own = [(p, p.y if line == "vlines" else p.across) for p in cloud]
        ends = [
            (p.x if line == "vlines" else p.y.value, e.low, e.high)
            for p, e in own
            if e is not None and e.low is not None and e.high is not None
        ]
        if ends:
            getattr(axes, line)(
                *zip(*ends, strict=True), color=COLOURS[6], linewidth=0.5, alpha=0.4
            )
    if cloud:
        axes.plot(
            [p.x for p in cloud], [p.y.value for p in cloud], marker="o", markersize=3,
            color=COLOURS[6], linestyle="none",
        )  # fmt: skip
    for p in points:
        if p.number in told:
            _point(axes, p)


def _spread(points: list[Point]) -> set[int]:
    """The numbers of `_MARKED` of the points at most, evenly from left to right."""
    if len(points) <= _MARKED:
        return {p.number for p in points}
    across = sorted(points, key=lambda p: p.x)
    return {across[i * (len(across) - 1) // (_MARKED - 1)].number for i in range(_MARKED)}


def _point(axes: Axes, p: Point) -> None:
    colour, shape = mark(p.number)
    hue, y, across = COLOURS[colour], p.y, p.across
    if y.low is not None and y.high is not None:
        axes.plot([p.x, p.x], [y.low, y.high], color=hue, linewidth=1.2, alpha=0.7)
    if across is not None and across.low is not None and across.high is not None:
        axes.plot([across.low, across.high], [y.value] * 2, color=hue, linewidth=1.2, alpha=0.7)
    axes.plot(
        [p.x], [y.value], marker=_MARKERS[shape], markersize=7, color=hue, linestyle="none",
        markerfacecolor="none" if p.hollow else hue, markeredgewidth=1.4,
    )  # fmt: skip
    axes.annotate(str(p.number), (p.x, y.value), (7, 4), textcoords="offset points", va="center")


def forgetting_plot(comparison: Comparison) -> list[Drawing]:
    """What each variant learnt over what it forgot, both as differences from the baseline."""
    found, kept, rows = columns(comparison), forgetting(comparison), table(comparison)
    if not kept or found[0] in kept:
        return []
    points = []
    for number, variant in enumerate(comparison.variants, 1):
        learnt = rows.get((variant.group, *_own(found, variant).key))
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
                Point(number, lost.value, learnt, lost, hollow=not variant.trained)
                for number, variant, learnt, lost in points
            ],
            set(),
        )
        axes.margins(x=0.08, y=0.1)

    up, across = found[0], kept[0]
    several = any(_own(found, variant) is not up for _, variant, *_ in points)
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


def _own(found: list[Column], variant: VariantResult) -> Column:
    """The headline metric on the rows that the variant was trained for, where it was asked them."""
    asked = [c for c in found if c.metric == found[0].metric]
    same = [c for c in asked if c.evaluation == variant.labels.get("data")]
    same = same or [c for c in asked if variant.trained and variant.trained_on(c.evaluation)]
    return same[0] if same else found[0]


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """At each place the mean of the values up to it, at most `window` of them."""
    sums = [0.0, *itertools.accumulate(values)]
    firsts = (max(0, end - window) for end in range(1, len(sums)))
    return [
        (sums[end] - sums[first]) / (end - first)
        for end, first in zip(range(1, len(sums)), firsts, strict=True)
    ]


def learning_curves(comparison: Comparison) -> list[Drawing]:
    """Loss by step of every training run; none where no losses were kept."""
    runs = [
        (number, [point for point in curve if math.isfinite(point[1])])
        for number, variant in enumerate(comparison.variants, 1)
        for curve in variant.losses
    ]
    runs = [(number, curve) for number, curve in runs if curve]
    numbers = tuple(dict.fromkeys(number for number, _ in runs))
    shown = set(numbers[:_CURVES])
    runs = [(number, curve) for number, curve in runs if number in shown]
    if not runs:
        return []
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Axes) -> None:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        named: set[int] = set()
        for number, curve in runs:
            colour, _ = mark(number)
            steps, losses = zip(*curve, strict=True)
            dash = _DASHES[(number - 1) // len(COLOURS) % len(_DASHES)]
            values = running_mean(losses, max(1, len(losses) // _SMOOTHED))
            axes.plot(steps, values, color=COLOURS[colour], linewidth=1.1, linestyle=dash)
            if number not in named and len(comparison.variants) <= _LABELLED:
                axes.annotate(
                    str(number), (steps[-1], values[-1]), (4, 0), textcoords="offset points",
                    va="center",
                )  # fmt: skip
            named.add(number)

    left = f" The first {_CURVES} of {len(numbers)} variants." if len(numbers) > _CURVES else ""
    return [
        Drawing(
            "losses",
            "Training loss by step",
            "One line for each training run, at each step the mean over a fifth of the run before,"
            " as steps differ by their rows. Losses of different objectives or data cannot be"
            f" compared, and a low one is no proof of quality.{left}",
            draw,
            numbers[:_CURVES],
            ("step", "training loss"),
        )
    ]
