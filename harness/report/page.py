"""The report as one HTML file that needs no network and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.compare.result import Comparison
from harness.report import plots, tuned
from harness.report.answer import sentences
from harness.report.background import evidence, provenance
from harness.report.columns import MARKS, Column, columns
from harness.report.safe import label, line, script_json, visible
from harness.report.sheets import against, results, sliced


def html(comparison: Comparison, *, examples: bool = True) -> str:
    """The whole page."""
    style, script = _asset("style.css"), _asset("script.js")
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.get_template("index.html.j2")
    found = columns(comparison)
    return template.render(
        title=label(comparison.suite),
        description=visible(comparison.description),
        answer=sentences(comparison),
        sections=_sections(comparison),
        legend=_legend(comparison),
        plots=_drawings(comparison, found),
        marks=MARKS,
        notes=[line(note) for note in comparison.notes],
        failed=len(comparison.failed),
        examples=_examples(comparison) if examples and comparison.examples else None,
        hidden=not examples,
        command=line(comparison.command),
        suite_text=visible(comparison.suite_text),
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
    )


def _asset(name: str) -> str:
    return files("harness.report").joinpath("templates", name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Nothing may be fetched, sent or run but this style and this script, by their digests."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}';"
        " base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _sections(comparison: Comparison) -> dict[str, Any]:
    return {
        "results": results(comparison),
        "against": against(comparison),
        "sliced": sliced(comparison),
        "evidence": evidence(comparison),
        "provenance": provenance(comparison),
    }


def _legend(comparison: Comparison) -> list[dict[str, Any]]:
    """The number, colour and shape of every variant that has a result."""
    found = []
    for number, variant in enumerate(comparison.variants, 1):
        if variant.status == "ok":
            colour, shape = plots.mark(number)
            name = label(variant.group)
            found.append({"number": number, "colour": colour, "shape": shape, "name": name})
    return found


def _drawings(comparison: Comparison, found: list[Column]) -> list[dict[str, Any]]:
    drawings = []
    cost = plots.quality_against_cost(comparison)
    if cost:
        headline = found[0]
        better = "Higher" if headline.up else "Lower"
        drawings.append(
            {
                "title": f"{headline.name} {headline.arrow} against training time",
                "caption": f"{better} and further left is better. Bars are 95% intervals; hollow"
                " marks are uses of the untrained model, which cost no training.",
                "svg": Markup(cost),
            }
        )
    drawings += [{**found, "svg": Markup(found["svg"])} for found in tuned.sensitivity(comparison)]
    losses = plots.learning_curves(comparison)
    if losses:
        drawings.append(
            {
                "title": "Training loss by step",
                "caption": "One line for each training run. Losses of different objectives or data"
                " cannot be compared, and a low one is no proof of quality.",
                "svg": Markup(losses),
            }
        )
    return drawings


def _examples(comparison: Comparison) -> dict[str, Any]:
    """The examples as JSON, and the choices of their filters."""
    known = {(column.metric, column.evaluation): column for column in columns(comparison)}
    scored: dict[str, bool] = {}
    for example in comparison.examples:
        for metric in dict.fromkeys(m for own in example.scores.values() for m in own):
            column = known.get((metric, example.evaluation))
            scored.setdefault(metric, column.up if column else True)
    variants = [variant.group for variant in comparison.variants if variant.status == "ok"]
    several = len({example.evaluation for example in comparison.examples}) > 1
    shown = [_example(example, variants, list(scored), several) for example in comparison.examples]
    payload = {
        "baseline": variants.index(comparison.baseline) if comparison.baseline in variants else -1,
        "variants": [label(name) for name in variants],
        "metrics": [{"name": label(name), "up": up} for name, up in scored.items()],
        "examples": shown,
    }
    families = list(dict.fromkeys(example["family"] for example in shown))
    return {
        "json": Markup(script_json(payload)),
        "count": len(shown),
        "families": [family for family in families if family],
        "variants": payload["variants"],
        "metrics": payload["metrics"],
        "baseline": label(comparison.baseline),
    }


def _example(
    example: Any, variants: list[str], metrics: list[str], several: bool
) -> dict[str, Any]:
    family = example.group
    if several:
        family = f"{example.evaluation} · {family}" if family else example.evaluation
    return {
        "id": label(example.id),
        "family": label(family),
        "prompt": visible(example.prompt),
        "references": [visible(reference) for reference in example.references],
        "answers": [
            visible(example.answers[name]) if name in example.answers else None for name in variants
        ],
        "scores": [_finite(example.scores.get(name, {}), metrics) for name in variants],
    }


def _finite(own: Mapping[str, float], metrics: list[str]) -> list[float | None]:
    """JSON has no word for what is not finite."""
    found = (own.get(metric) for metric in metrics)
    return [value if value is not None and math.isfinite(value) else None for value in found]
