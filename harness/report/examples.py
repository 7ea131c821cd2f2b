"""The examples of a report: the first ones are in the page, all of them in a file beside it."""

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
"""The size of the examples in the page; further ones are in FILE only."""
_LONGEST = 20_000
"""How many characters of one text the page shows; FILE holds the whole text."""


@dataclass(frozen=True)
class Shown:
    """The examples as the page's template needs them.

    Attributes:
        json: the examples for the page's script.
        count: how many examples are in the page.
        total: how many examples the comparison has.
        cut: how many texts are too long for the page, so that it shows their beginning.
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
        """Whether FILE holds more than the page."""
        return self.count < self.total or self.cut > 0


def key_of(example: Example) -> str:
    """The example's name in a link: the same in every report on the same rows."""
    text = f"{example.evaluation}\0{example.id}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def shown(comparison: Comparison) -> Shown:
    """The examples in the page: as many as fit into PAGE_BYTES, in the comparison's order."""
    scored = _metrics(comparison)
    variants = [variant.group for variant in comparison.variants if variant.has_result]
    several = len({example.evaluation for example in comparison.examples}) > 1
    kept: list[dict[str, Any]] = []
    size = cut = 0
    for example in comparison.examples:
        entry = _example(example, variants, list(scored), several)
        size += len(script_json(entry).encode())
        if size > PAGE_BYTES and kept:
            break
        cut += sum(len(text) > _LONGEST for text in _texts(example))
        kept.append(entry)
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
    """All examples as JSON lines, with complete and unchanged texts."""
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
                    name: dict(zip(values, _finite(values, list(values)), strict=True))
                    for name, values in example.scores.items()
                },
            }
        )
        + "\n"
        for example in comparison.examples
    )


def _metrics(comparison: Comparison) -> dict[str, bool]:
    """The metrics of single examples -> whether higher is better; the headline metric is first."""
    known = {(column.metric, column.evaluation): column.up for column in columns(comparison)}
    directions: dict[str, bool] = {}
    for example in comparison.examples:
        for metric in dict.fromkeys(m for values in example.scores.values() for m in values):
            directions.setdefault(metric, known.get((metric, example.evaluation), True))
    order = [column.metric for column in columns(comparison)]
    return dict(
        sorted(directions.items(), key=lambda m: order.index(m[0]) if m[0] in order else len(order))
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


def _finite(scores: Mapping[str, float], metrics: list[str]) -> list[float | None]:
    """The scores to six digits; None for a score that is missing or not finite, which JSON cannot
    express."""
    values = (scores.get(metric) for metric in metrics)
    return [
        float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
        for value in values
    ]
