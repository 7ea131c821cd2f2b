"""A report that can be shared: without any text of its data."""

from __future__ import annotations

from dataclasses import replace

from harness.comparison.result import Comparison
from harness.core.text import rewrite

_LEFT_OUT = "[left out]"
_SHORTEST = 12
"""A text shorter than this ("yes", a number) also occurs where nothing of the data is quoted."""


def without_examples(comparison: Comparison) -> Comparison:
    """The comparison without examples, and with their texts removed from all other texts.

    The reasons of failures, audits and notes may quote a row, and the suite may contain an example.
    """
    texts = {
        text.strip()
        for example in comparison.examples
        for text in (example.prompt, *example.references, *example.answers.values())
    }
    # The longest text is removed first, as a text may be a part of another.
    long_enough = (text for text in texts if len(text) >= _SHORTEST)
    secrets = sorted(long_enough, key=lambda text: (-len(text), text))

    def cut(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, _LEFT_OUT)
        return text

    return rewrite(replace(comparison, examples=()), cut)
