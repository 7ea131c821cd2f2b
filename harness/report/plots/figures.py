"""Every plot of a report, for the page and as files of their own."""

from __future__ import annotations

import re

from harness.comparison.result import Comparison
from harness.core.text import label
from harness.report.plots import draw
from harness.report.plots.alignment import tax_plot
from harness.report.plots.forest import ordered
from harness.report.plots.plots import Drawing, forgetting_plot, learning_curves, tradeoffs
from harness.report.plots.swept import sweeps
from harness.report.plots.tuned import sensitivity
from harness.report.tables.columns import columns

FOLDER = "figures"
OURS = re.compile(
    r"(tradeoff-(time|memory)|forgetting|alignment|sweep\d+|tuned\d+|losses|forest)\.(svg|png)"
)
"""Names of the files below FOLDER that a report writes, and may remove."""


def drawings(comparison: Comparison) -> list[Drawing]:
    """Every plot that the comparison has the figures for."""
    made = (tradeoffs, forgetting_plot, tax_plot, sweeps, sensitivity, learning_curves)
    return [drawing for make in made for drawing in make(comparison)]


def files(comparison: Comparison) -> dict[str, bytes]:
    """`figures/<key>.svg` and `.png` of every plot, with names in place of numbers alone."""
    names = {n: _short(label(v.group)) for n, v in enumerate(comparison.variants, 1)}
    found: dict[str, bytes] = {}
    for drawing in drawings(comparison):
        found |= draw.files(drawing, names)
    top = columns(comparison)[:1]
    for column in top:
        rows, _ = ordered(comparison, column)
        found |= draw.forest(rows, column, label(comparison.baseline)) if rows else {}
    return {f"{FOLDER}/{name}": content for name, content in found.items()}


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:19]}…{name[-20:]}"
