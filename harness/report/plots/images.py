"""Draws plots with matplotlib: as SVG for the page, and as SVG and PNG files."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.comparison.result import Row
from harness.core.text import label
from harness.report.plots.drawing import Drawing, mark, marker
from harness.report.plots.svg import COLOURS, inline
from harness.report.tables.columns import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RC: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "harness", "font.size": 9.5, "axes.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "axes.formatter.use_mathtext": False,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "path.simplify": False,
}  # fmt: skip
_DPI = 160
_LABEL = 44
"""How many characters an axis's label has at most."""
_HUES = {"better": 2, "worse": 1, "no difference shown": 6}
_SHAPES = {"better": "^", "worse": "v"}
_LEGEND = 24
"""A file with more variants than this has no legend, only their numbers."""


def for_page(drawing: Drawing) -> str:
    """The plot as SVG in the page's colours and fonts."""
    with _style():
        figure = _figure(drawing, (4.8, 3.2))
        buffer = io.BytesIO()
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return inline(buffer.getvalue(), drawing.key)


def files(
    drawing: Drawing, names: Mapping[int, str], size: tuple[float, float] | None = None
) -> dict[str, bytes]:
    """The plot as `<key>.svg` and `<key>.png`, with labels of the axes and a legend.

    The same drawing gives the same bytes.

    Args:
        names: number of a variant -> its name.
        size: in inches.
    """
    listed = [n for n in drawing.numbers if n in names]
    listed = listed if len(listed) <= _LEGEND else []
    contents = {}
    with _style():
        figure = _figure(drawing, size or (6.4, 3.8 + 0.1 * len(listed)))
        axes = figure.axes[0]
        title = axes.set_title(_short(drawing.title, 90), fontsize=10.5, loc="left")
        title.set_parse_math(False)
        if listed:
            _legend(figure, listed, names)
        for kind in ("svg", "png"):
            buffer = io.BytesIO()
            meta = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
            figure.savefig(
                buffer, format=kind, facecolor="white", metadata=meta, dpi=_DPI,
            )  # fmt: skip
            contents[f"{drawing.key}.{kind}"] = buffer.getvalue()
            figure.set_layout_engine("none")  # the second file has the layout of the first
    return contents


@contextlib.contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    # A PNG shows a box for a character that the font lacks; an SVG uses the reader's fonts.
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def _short(text: str, most: int = _LABEL) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _figure(drawing: Drawing, size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y", linewidth=0.4, alpha=0.25, color="black")
    axes.set_axisbelow(True)
    drawing.draw(axes)
    across, up = (_short(name) for name in drawing.labels)
    for text in (axes.set_xlabel(across), axes.set_ylabel(up)):
        text.set_parse_math(False)
    return figure


def _legend(figure: Figure, listed: Sequence[int], names: Mapping[int, str]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for number in listed:
        hue = COLOURS[mark(number)[0]]
        handles.append(
            Line2D([], [], marker=marker(number), color=hue, linestyle="none", markersize=6)
        )
    legend = figure.legend(
        handles, [f"{n} {names[n]}" for n in listed], loc="outside lower left", ncols=2,
        frameon=False, fontsize=8,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def forest(rows: Sequence[Row], column: Column, baseline: str) -> dict[str, bytes]:
    """The forest plot as `forest.svg` and `forest.png`, with the best variant on top."""

    def draw(axes: Axes) -> None:
        axes.axvline(0, color="black", linewidth=0.7, linestyle=":", zorder=0)
        for place, row in enumerate(rows):
            if row.difference is None:
                continue
            hue = COLOURS[_HUES.get(row.verdict, 6)]
            low, high = row.difference.low, row.difference.high
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=hue, linewidth=1.4)
            axes.plot(
                [row.difference.value], [place], marker=_SHAPES.get(row.verdict, "o"), color=hue,
                markersize=6, linestyle="none",
            )  # fmt: skip
        names = axes.set_yticks(range(len(rows)), [_short(label(row.group)) for row in rows])
        for tick in names:
            tick.label1.set_parse_math(False)
            tick.label1.set_fontsize(8)
        axes.set_ylim(len(rows) - 0.5, -0.5)

    drawing = Drawing(
        "forest", f"Difference from {baseline}", "", draw, (),
        (f"difference in {column.name} {column.arrow}, with 95% interval", ""),
    )  # fmt: skip
    return files(drawing, {}, (6.4, 1.4 + 0.24 * len(rows)))
