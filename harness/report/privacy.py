"""A report that may leave the house: without the sentences of its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.compare.result import Comparison

_LEFT_OUT = "[left out]"
_SHORTEST = 12
"""Shorter pieces ("yes", a number) also stand in texts that have nothing to do with the data."""


def without_examples(comparison: Comparison) -> Comparison:
    """The comparison without examples, and with their sentences cut out of every other text.

    Reasons of failures, audits and notes may quote a row; the suite may hold a worked example.
    """
    found = {part for example in comparison.examples for part in _sentences(example)}
    secrets = sorted((p for p in found if len(p) >= _SHORTEST), key=lambda p: (-len(p), p))

    def cut(value: Any) -> Any:
        if isinstance(value, str):
            for secret in secrets:
                value = value.replace(secret, _LEFT_OUT)
            return value
        if isinstance(value, Mapping):
            return {name: cut(inner) for name, inner in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(cut(inner) for inner in value)
        return value

    variants = tuple(
        replace(variant, reasons=cut(variant.reasons), audit=cut(variant.audit))
        for variant in comparison.variants
    )
    return replace(
        comparison,
        variants=variants,
        rows=tuple(replace(row, note=cut(row.note)) for row in comparison.rows),
        examples=(),
        description=cut(comparison.description),
        contamination=cut(comparison.contamination),
        provenance=cut(comparison.provenance),
        data=cut(comparison.data),
        notes=cut(comparison.notes),
        suite_text=cut(comparison.suite_text),
    )


def _sentences(example: Any) -> list[str]:
    texts = [example.prompt, *example.references, *example.answers.values()]
    return [text.strip() for text in texts]
