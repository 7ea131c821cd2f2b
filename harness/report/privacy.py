"""A report that may leave the house: without the sentences of its data."""

from __future__ import annotations

from dataclasses import replace

from harness.comparison.result import Comparison
from harness.core.text import rewrite

_LEFT_OUT = "[left out]"
_SHORTEST = 12
"""Shorter pieces ("yes", a number) also stand in texts that have nothing to do with the data."""


def without_examples(comparison: Comparison) -> Comparison:
    """The comparison without examples, and with their sentences cut out of every other text.

    Reasons of failures, audits and notes may quote a row; the suite may hold a worked example.
    """
    found = {
        text.strip()
        for example in comparison.examples
        for text in (example.prompt, *example.references, *example.answers.values())
    }
    # The longest first: a sentence may be a part of another.
    secrets = sorted((text for text in found if len(text) >= _SHORTEST), key=lambda t: (-len(t), t))

    def cut(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, _LEFT_OUT)
        return text

    return rewrite(replace(comparison, examples=()), cut)
