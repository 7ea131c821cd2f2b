"""A plot before it is drawn, and what all plots share: each variant's mark, and points.

A variant is drawn with the number that it has in the results table; a legend has the names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.comparison.result import Estimate
from harness.report.plots.svg import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = {"●": "o", "■": "s", "▲": "^", "▼": "v", "◆": "D", "★": "*", "✚": "P"}
WIDE = 20.0
"""An axis is logarithmic if its greatest value is more than this many times its least."""
_MARKED = 60
"""Up to this many points have a mark and a number each. Of more points only those of the front do,
and of a longer front as many, spread evenly along it."""


@dataclass(frozen=True)
class Drawing:
    """A plot before it is drawn.

    Attributes:
        key: the name of its files.
        draw: draws it on matplotlib's axes.
        numbers: the variants in it, for a legend.
        labels: of the x and the y axis; the page has them in the title instead.
    """

    key: str
    title: str
    caption: str
    draw: Callable[[Axes], None]
    numbers: tuple[int, ...]
    labels: tuple[str, str]


def mark(number: int) -> tuple[int, str]:
    """(index of the colour, shape) of the variant with this number; 49 variants differ."""
    index = number - 1
    shift = index // len(COLOURS)
    return index % len(COLOURS), list(_MARKERS)[(index + shift) % len(_MARKERS)]


def marker(number: int) -> str:
    """Matplotlib's marker for the variant with this number."""
    return _MARKERS[mark(number)[1]]


@dataclass(frozen=True)
class Point:
    """One variant in a plot of two measures.

    Attributes:
        y: the measure on the y axis with its interval.
        across: the measure on the x axis with its interval, if it has one; its value is `x`.
        hollow: drawn without a fill: the variant is untrained.
    """

    number: int
    x: float
    y: Estimate
    across: Estimate | None = None
    hollow: bool = False


def scatter(axes: Axes, points: list[Point], front: set[int]) -> None:
    """Draw every point with its mark, number and intervals.

    Of more than _MARKED points, only those of the front are; the others are small and grey.

    Args:
        front: the numbers of the variants on the Pareto front.
    """
    numbered = _spread([p for p in points if p.number in front or len(points) <= _MARKED])
    cloud = [p for p in points if p.number not in numbered]
    for line in ("vlines", "hlines") if cloud else ():
        intervals = [(p, p.y if line == "vlines" else p.across) for p in cloud]
        ends = [
            (p.x if line == "vlines" else p.y.value, e.low, e.high)
            for p, e in intervals
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
        if p.number in numbered:
            _point(axes, p)


def _spread(points: list[Point]) -> set[int]:
    """The numbers of at most _MARKED points, evenly from left to right."""
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
