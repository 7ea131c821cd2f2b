"""Plots of the trials of tuned variants: the metric against each hyper-parameter."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.comparison.result import Comparison
from harness.core.text import label
from harness.report.plots.drawing import WIDE, Drawing, mark, marker
from harness.report.plots.svg import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TICKS = 6
"""Up to this many different values have a tick each on the axis."""
Trial = tuple[float, float, bool]
"""(the hyper-parameter's value, the metric on validation rows, whether the trial won)"""


def sensitivity(comparison: Comparison) -> list[Drawing]:
    """A plot for each numeric hyper-parameter: the metric on validation rows against it."""
    panels: dict[tuple[str, str, str], list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for number, variant in enumerate(comparison.variants, 1):
        for tuning in comparison.tuning:
            if tuning["group"] == variant.group and variant.has_result:
                for field in _numeric(tuning):
                    panels[field, tuning["metric"], tuning["evaluation"]].append((number, tuning))
    drawings = []
    for index, ((field, metric, entry), members) in enumerate(panels.items()):
        better = "Higher" if members[0][1]["higher_is_better"] else "Lower"
        won = "; ".join(_won(number, tuning, field) for number, tuning in members)
        drawings.append(
            Drawing(
                f"tuned{index}",
                label(f"{metric} on validation rows of {entry} against {field}"),
                f"{better} is better. Each mark is a trial, the line joins the best at"
                f" each value, and a ring is round the trial that won: {won}.",
                _drawing(field, members),
                tuple(number for number, _ in members),
                (label(field), label(f"{metric} on validation rows")),
            )
        )
    return drawings


def _won(number: int, tuning: Mapping[str, Any], field: str) -> str:
    winner = next(t for t in tuning["trials"] if t["number"] == tuning["winner"])
    return (
        f"{number} {label(tuning['group'])}, trial {winner['number']} of {tuning['total']}"
        f" ({winner['set'][field]:g})"
    )


def _numeric(tuning: Mapping[str, Any]) -> Iterator[str]:
    """The fields for which successful trials had at least two different numbers."""
    good = [trial["set"] for trial in tuning["trials"] if trial["status"] == "ok"]
    for field in good[0] if good else ():
        values = [settings[field] for settings in good]
        plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if plain and len(set(values)) > 1:
            yield field


def _drawing(field: str, members: list[tuple[int, Mapping[str, Any]]]) -> Callable[[Axes], None]:
    curves = [(number, _points(tuning, field), tuning) for number, tuning in members]
    values = sorted({point[0] for _, points, _ in curves for point in points})
    heights = [point[1] for _, points, _ in curves for point in points]
    logarithmic = any(field in tuning["logarithmic"] for _, _, tuning in curves)

    def draw(axes: Axes) -> None:
        if values[0] > 0 and (logarithmic or values[-1] > WIDE * values[0]):
            axes.set_xscale("log")
        if min(heights) > 0 and max(heights) > WIDE * min(heights):
            axes.set_yscale("log")
        if len(values) <= _TICKS:
            axes.set_xticks(values)
            axes.minorticks_off()
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for number, points, tuning in curves:
            _curve(axes, number, points, higher=tuning["higher_is_better"])
        axes.margins(x=0.08, y=0.1)

    return draw


def _points(tuning: Mapping[str, Any], field: str) -> list[Trial]:
    return [
        (float(trial["set"][field]), float(trial["value"]), trial["number"] == tuning["winner"])
        for trial in tuning["trials"]
        if trial["status"] == "ok" and math.isfinite(trial["value"])
    ]


def _curve(axes: Axes, number: int, points: list[Trial], *, higher: bool) -> None:
    colour, _ = mark(number)
    hue, shape = COLOURS[colour], marker(number)
    best: dict[float, float] = {}
    for value, reached, _ in sorted(points):
        better = max if higher else min
        best[value] = better(best.get(value, reached), reached)
    axes.plot(list(best), list(best.values()), color=hue, linewidth=1.1)
    for value, reached, won in points:
        axes.plot([value], [reached], marker=shape, markersize=5, color=hue, linestyle="none")
        if won:
            axes.plot(
                [value], [reached], marker="o", markersize=12, color=hue, linestyle="none",
                markerfacecolor="none", markeredgewidth=1.2,
            )  # fmt: skip
    last = max(best)
    axes.annotate(str(number), (last, best[last]), (8, 0), textcoords="offset points", va="center")
