"""All plots of a report, for the page and as files."""

from __future__ import annotations

import re

from harness.comparison.result import Comparison
from harness.core.text import label
from harness.report.plots import images
from harness.report.plots.alignment import tax_plot
from harness.report.plots.drawing import Drawing
from harness.report.plots.forest import ordered
from harness.report.plots.losses import learning_curves
from harness.report.plots.sensitivity import sensitivity
from harness.report.plots.sweeps import sweeps
from harness.report.plots.tradeoffs import forgetting_plot, tradeoffs
from harness.report.tables.columns import columns

FOLDER = "figures"
OURS = re.compile(
    r"(tradeoff-(time|memory)|forgetting|alignment|sweep\d+|tuned\d+|losses|forest)\.(svg|png)"
)
"""The names of the files in FOLDER that a report writes and may remove."""


def drawings(comparison: Comparison) -> list[Drawing]:
    """All plots that the comparison has data for."""
    makers = (tradeoffs, forgetting_plot, tax_plot, sweeps, sensitivity, learning_curves)
    return [drawing for make in makers for drawing in make(comparison)]


def files(comparison: Comparison) -> dict[str, bytes]:
    """Name -> content of `figures/<key>.svg` and `.png` of every plot, with names in a legend."""
    names = {n: _short(label(v.group)) for n, v in enumerate(comparison.variants, 1)}
    contents: dict[str, bytes] = {}
    for drawing in drawings(comparison):
        contents |= images.files(drawing, names)
    headline = columns(comparison)[:1]
    for column in headline:
        rows, _ = ordered(comparison, column)
        contents |= images.forest(rows, column, label(comparison.baseline)) if rows else {}
    return {f"{FOLDER}/{name}": content for name, content in contents.items()}


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:19]}…{name[-20:]}"
