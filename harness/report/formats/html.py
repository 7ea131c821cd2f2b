"""The report as one HTML file; it needs no network, and only its own script can run."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from harness.comparison.result import Comparison
from harness.core.text import label, line, script_json, visible
from harness.report import examples, measures
from harness.report.answer import paragraphs
from harness.report.formats.web import asset, policy, template
from harness.report.plots import alignment as tax_plot
from harness.report.plots import figures, images
from harness.report.plots.drawing import mark
from harness.report.plots.forest import forests
from harness.report.tables import alignment as tax
from harness.report.tables import claims
from harness.report.tables.columns import MARKS
from harness.report.tables.families import seeds, sliced, transfer
from harness.report.tables.provenance import evidence, provenance
from harness.report.tables.sheets import against, results

_SCRIPTS = ("tables.js", "tradeoffs.js", "diff.js", "examples.js")
_LEGEND = 60
"""How many variants the legend of the plots names; the results table has all their numbers."""


def page(comparison: Comparison, shown: examples.Shown | None) -> str:
    """The page as text.

    Args:
        shown: the examples in it; None if the report has none.
    """
    style = asset("style.css")
    script = "\n".join(['"use strict";', *(asset(name) for name in _SCRIPTS)])
    weighed, drawn = measures.payload(comparison), _drawings(comparison)
    legend, groups = _legend(comparison), {entry.group for entry in comparison.taxes}
    aligned = {n for n, v in enumerate(comparison.variants, 1) if v.group in groups}
    return template("index.html.j2").render(
        title=label(comparison.suite),
        description=visible(comparison.description),
        answer=paragraphs(comparison),
        sections=_sections(comparison),
        legend=legend,
        plots=[plot for plot in drawn if plot["key"] != tax_plot.KEY],
        aligned=[plot for plot in drawn if plot["key"] == tax_plot.KEY],
        aligned_legend=[e for e in legend if e["number"] in aligned],
        kept=tax.kept(comparison),
        forests=forests(comparison),
        weighed=weighed,
        untrained=any(variant.untrained for variant in comparison.variants),
        across=_across(weighed),
        weighed_json=Markup(script_json(weighed)),
        marks=MARKS,
        notes=[line(note) for note in comparison.notes],
        failed=len(comparison.failed),
        examples=shown,
        hidden=shown is None,
        command=line(comparison.command),
        suite_text=visible(comparison.suite_text),
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script),
    )


def _across(weighed: dict[str, Any]) -> str:
    """The cost that the page shows first against the headline metric: of these, the one that is
    known of most variants, as times that cannot be compared are left out."""
    known = {m["key"]: sum(v is not None for v in m["values"]) for m in weighed.get("measures", ())}
    wanted = [k for k in ("train_seconds", "state_bytes", "peak_device_bytes") if k in known]
    return max(wanted, key=known.__getitem__, default=list(known)[-1] if known else "")


def _sections(comparison: Comparison) -> dict[str, Any]:
    return {
        "claims": claims.sheet(comparison),
        "results": results(comparison),
        "against": against(comparison),
        "sliced": sliced(comparison),
        "seeds": seeds(comparison),
        "tax": tax.sheet(comparison),
        "transfer": transfer(comparison),
        "evidence": evidence(comparison),
        "provenance": provenance(comparison),
    }


def _legend(comparison: Comparison) -> list[dict[str, Any]]:
    """The number, colour and shape of every variant that has a result."""
    legend: list[dict[str, Any]] = []
    for number, variant in enumerate(comparison.variants, 1):
        if variant.has_result and len(legend) < _LEGEND:
            colour, shape = mark(number)
            name = label(variant.group)
            legend.append({"number": number, "colour": colour, "shape": shape, "name": name})
    return legend


def _drawings(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "key": drawing.key,
            "title": drawing.title,
            "caption": drawing.caption,
            "svg": Markup(images.for_page(drawing)),
        }
        for drawing in figures.drawings(comparison)
        # The page's script draws these, for any two measures.
        if not drawing.key.startswith("tradeoff")
    ]
