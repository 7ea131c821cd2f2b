"""The trials behind tuned variants: their table, and the metric against each hyper-parameter."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.comparison.result import Comparison, Estimate
from harness.core.text import label, line
from harness.report import numbers
from harness.report.plots import plots
from harness.report.plots.svg import COLOURS
from harness.report.tables.sheets import Cell, Line, Sheet, figure, name_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TICKS = 6
"""So many values or fewer are marked on the axis one by one."""
Point = tuple[float, float, bool]
"""The hyper-parameter's value, the metric on validation rows, and whether the trial won."""


def trials(comparison: Comparison) -> Sheet:
    """Every trial: what it set, what it reached on validation rows, what it cost."""
    lines = [Line(*_trial(found, t)) for found in comparison.tuning for t in found["trials"]]
    counts = sorted({found["total"] for found in comparison.tuning})
    told = " or ".join(map(str, counts))
    return Sheet(
        "trials",
        "Trials",
        ("variant", "trial", "set", "on validation rows", "training time", "steps", "outcome"),
        tuple(lines),
        f"Each tuned variant had {told} trials and was chosen by its value on validation rows; no"
        " trial was scored on test rows. A failed trial counts, and cannot win.",
    )


def _trial(found: Mapping[str, Any], trial: Mapping[str, Any]) -> tuple[tuple[Cell, ...], str]:
    first = (
        name_cell(found["group"]),
        figure(str(trial["number"]), trial["number"]),
        Cell(_settings(trial), name=True),
    )
    if trial["status"] != "ok":
        return first, line(trial["error"])
    arrow = "↑" if found["higher_is_better"] else "↓"
    value, cost = trial["value"], trial["cost"]
    return (
        *first,
        Cell(numbers.value(Estimate(value)), line(f"{found['metric']} {arrow}"), sort=value),
        figure(numbers.seconds(cost["seconds"]), cost["seconds"]),
        figure(numbers.count(cost["steps"]), cost["steps"]),
        Cell("won" if trial["number"] == found["winner"] else "not chosen"),
    ), ""


def _settings(trial: Mapping[str, Any]) -> str:
    return line(", ".join(f"{name} = {value}" for name, value in trial["set"].items()))


def sensitivity(comparison: Comparison) -> list[plots.Drawing]:
    """For each numeric hyper-parameter: the metric on validation rows against it."""
    panels: dict[tuple[str, str, str], list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for number, variant in enumerate(comparison.variants, 1):
        for found in comparison.tuning:
            if found["group"] == variant.group and variant.has_result:
                for field in _numeric(found):
                    panels[field, found["metric"], found["evaluation"]].append((number, found))
    drawings = []
    for index, ((field, metric, entry), members) in enumerate(panels.items()):
        better = "Higher" if members[0][1]["higher_is_better"] else "Lower"
        won = "; ".join(_won(number, found, field) for number, found in members)
        drawings.append(
            plots.Drawing(
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


def _won(number: int, found: Mapping[str, Any], field: str) -> str:
    winner = next(t for t in found["trials"] if t["number"] == found["winner"])
    return (
        f"{number} {label(found['group'])}, trial {winner['number']} of {found['total']}"
        f" ({winner['set'][field]:g})"
    )


def _numeric(found: Mapping[str, Any]) -> Iterator[str]:
    """Fields in which the trials that succeeded have at least two different numbers."""
    good = [trial["set"] for trial in found["trials"] if trial["status"] == "ok"]
    for field in good[0] if good else ():
        values = [settings[field] for settings in good]
        plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if plain and len(set(values)) > 1:
            yield field


def _drawing(field: str, members: list[tuple[int, Mapping[str, Any]]]) -> Callable[[Axes], None]:
    curves = [(number, _points(found, field), found) for number, found in members]
    values = sorted({point[0] for _, points, _ in curves for point in points})
    heights = [point[1] for _, points, _ in curves for point in points]
    logarithmic = any(field in found["logarithmic"] for _, _, found in curves)

    def draw(axes: Axes) -> None:
        if values[0] > 0 and (logarithmic or values[-1] > plots.WIDE * values[0]):
            axes.set_xscale("log")
        if min(heights) > 0 and max(heights) > plots.WIDE * min(heights):
            axes.set_yscale("log")
        if len(values) <= _TICKS:
            axes.set_xticks(values)
            axes.minorticks_off()
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for number, points, found in curves:
            _curve(axes, number, points, higher=found["higher_is_better"])
        axes.margins(x=0.08, y=0.1)

    return draw


def _points(found: Mapping[str, Any], field: str) -> list[Point]:
    return [
        (float(trial["set"][field]), float(trial["value"]), trial["number"] == found["winner"])
        for trial in found["trials"]
        if trial["status"] == "ok" and math.isfinite(trial["value"])
    ]


def _curve(axes: Axes, number: int, points: list[Point], *, higher: bool) -> None:
    colour, _ = plots.mark(number)
    hue, shape = COLOURS[colour], plots.marker(number)
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
