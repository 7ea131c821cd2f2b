"""The table of the trials behind tuned variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.comparison.result import Comparison, Estimate
from harness.core.text import line, number_of
from harness.report import numbers
from harness.report.tables.sheets import Cell, Line, Sheet, figure, name_cell


def trials(comparison: Comparison) -> Sheet:
    """One line for each trial: its settings, its metric on validation rows, its cost."""
    lines = [Line(*_trial(tuning, t)) for tuning in comparison.tuning for t in tuning["trials"]]
    totals = sorted({tuning["total"] for tuning in comparison.tuning})
    count = " or ".join([*map(str, totals[:-1]), *(number_of(n, "trial") for n in totals[-1:])])
    return Sheet(
        "trials",
        "Trials",
        ("variant", "trial", "set", "on validation rows", "training time", "steps", "outcome"),
        tuple(lines),
        f"Each tuned variant had {count} and was chosen by its value on validation rows; no trial"
        " was scored on test rows. A failed trial counts, and cannot win.",
    )


def _trial(tuning: Mapping[str, Any], trial: Mapping[str, Any]) -> tuple[tuple[Cell, ...], str]:
    first = (
        name_cell(tuning["group"]),
        figure(str(trial["number"]), trial["number"]),
        Cell(_settings(trial), name=True),
    )
    if trial["status"] != "ok":
        return first, line(trial["error"])
    arrow = "↑" if tuning["higher_is_better"] else "↓"
    value, cost = trial["value"], trial["cost"]
    return (
        *first,
        Cell(numbers.value(Estimate(value)), line(f"{tuning['metric']} {arrow}"), sort=value),
        figure(numbers.seconds(cost["seconds"]), cost["seconds"]),
        figure(numbers.count(cost["steps"]), cost["steps"]),
        Cell("won" if trial["number"] == tuning["winner"] else "not chosen"),
    ), ""


def _settings(trial: Mapping[str, Any]) -> str:
    return line(", ".join(f"{name} = {value}" for name, value in trial["set"].items()))
