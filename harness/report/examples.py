"""Examples of a report: those within the page, and all of them in a file beside it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.comparison.result import Comparison, Example
from harness.core.text import label, script_json, visible
from harness.report.tables.columns import columns

FILE = "examples.jsonl"
PAGE_BYTES = 4_000_000
"""Of examples within the page; more stand in FILE alone."""
_LONGEST = 20_000
"""Characters of one text within the page; FILE holds it whole."""


@dataclass(frozen=True)
class Shown:
    """What the page's template needs of the examples.

    Attributes:
        total: examples of the comparison, of which `count` are within the page.
        cut: texts too long for the page, shown up to a length.
    """

    json: Markup
    count: int
    total: int
    cut: int
    families: list[str]
    variants: list[str]
    metrics: list[dict[str, Any]]
    baseline: str

    @property
    def beside(self) -> bool:
        """Whether FILE holds what the page does not."""
        return self.count < self.total or self.cut > 0


def key_of(example: Example) -> str:
    """What a link to the example names: the same in every report on the same rows."""
    text = f"{example.evaluation}\0{example.id}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def shown(comparison: Comparison) -> Shown:
    """As many examples as the page may hold, the first of each evaluation in turn."""
    scored = _metrics(comparison)
    variants = [variant.group for variant in comparison.variants if variant.has_result]
    several = len({example.evaluation for example in comparison.examples}) > 1
    kept: list[dict[str, Any]] = []
    size = cut = 0
    for example in comparison.examples:
        made = _example(example, variants, list(scored), several)
        size += len(script_json(made).encode())
        if size > PAGE_BYTES and kept:
            break
        cut += sum(len(text) > _LONGEST for text in _texts(example))
        kept.append(made)
    payload: dict[str, Any] = {
        "baseline": variants.index(comparison.baseline) if comparison.baseline in variants else -1,
        "variants": [label(name) for name in variants],
        "metrics": [{"name": label(name), "up": up} for name, up in scored.items()],
        "examples": kept,
    }
    families = list(dict.fromkeys(example["family"] for example in kept))
    return Shown(
        json=Markup(script_json(payload)),
        count=len(kept),
        total=len(comparison.examples),
        cut=cut,
        families=[family for family in families if family],
        variants=payload["variants"],
        metrics=payload["metrics"],
        baseline=label(comparison.baseline),
    )


def lines(comparison: Comparison) -> str:
    """Every example as a line of JSON, whole and as it was written."""
    return "".join(
        script_json(
            {
                "key": key_of(example),
                "id": example.id,
                "evaluation": example.evaluation,
                "group": example.group,
                "prompt": example.prompt,
                "references": list(example.references),
                "answers": dict(example.answers),
                "finishes": dict(example.finishes),
                "scores": {
                    name: dict(zip(own, _finite(own, list(own)), strict=True))
                    for name, own in example.scores.items()
                },
            }
        )
        + "\n"
        for example in comparison.examples
    )


def _metrics(comparison: Comparison) -> dict[str, bool]:
    """Metrics that single examples have, and whether higher is better; the headline one first."""
    known = {(column.metric, column.evaluation): column.up for column in columns(comparison)}
    found: dict[str, bool] = {}
    for example in comparison.examples:
        for metric in dict.fromkeys(m for own in example.scores.values() for m in own):
            found.setdefault(metric, known.get((metric, example.evaluation), True))
    order = [column.metric for column in columns(comparison)]
    return dict(
        sorted(found.items(), key=lambda m: order.index(m[0]) if m[0] in order else len(order))
    )


def _texts(example: Example) -> tuple[str, ...]:
    return (example.prompt, *example.references, *example.answers.values())


def _example(
    example: Example, variants: list[str], metrics: list[str], several: bool
) -> dict[str, Any]:
    family = example.group
    if several:
        family = f"{example.evaluation} · {family}" if family else example.evaluation
    return {
        "key": key_of(example),
        "id": label(example.id),
        "family": label(family),
        "prompt": _within(example.prompt),
        "references": [_within(reference) for reference in example.references],
        "answers": [
            _within(example.answers[name]) if name in example.answers else None for name in variants
        ],
        "cut": [example.finishes.get(name) == "length" for name in variants],
        "scores": [_finite(example.scores.get(name, {}), metrics) for name in variants],
    }


def _within(text: str) -> str:
    if len(text) <= _LONGEST:
        return visible(text)
    return f"{visible(text[:_LONGEST])} … ({len(text) - _LONGEST:,} more characters in {FILE})"


def _finite(own: Mapping[str, float], metrics: list[str]) -> list[float | None]:
    """JSON has no word for what is not finite; six digits tell single examples apart."""
    found = (own.get(metric) for metric in metrics)
    return [
        float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
        for value in found
    ]
