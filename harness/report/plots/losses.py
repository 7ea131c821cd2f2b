"""The plot of training losses by step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.comparison.result import Comparison
from harness.core.text import number_of
from harness.report.plots.drawing import Drawing, mark
from harness.report.plots.svg import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = ("-", "--", ":", "-.")
_LABELLED = 8
"""Up to this many variants, curves are numbered; the ends of more lie too close together."""
_SMOOTHED = 5
"""Losses are averaged over a fifth of the run, as rows grouped by length come in waves."""
_CURVES = 40
"""How many variants' losses are drawn; more lines cannot be told apart."""


def learning_curves(comparison: Comparison) -> list[Drawing]:
    """The plot of the loss by step of every training run; empty if no losses were logged."""
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

    left = (
        f" The first {_CURVES} of {number_of(len(numbers), 'variant')}."
        if len(numbers) > _CURVES
        else ""
    )
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


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """For each value the mean of the last `window` values up to it."""
    sums = [0.0, *itertools.accumulate(values)]
    firsts = (max(0, end - window) for end in range(1, len(sums)))
    return [
        (sums[end] - sums[first]) / (end - first)
        for end, first in zip(range(1, len(sums)), firsts, strict=True)
    ]
