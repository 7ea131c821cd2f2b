"""Decide how to fine-tune a language model: train, measure and compare in one matrix."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["Comparison", "__version__", "load"]


def __getattr__(name: str) -> object:
    """Public names resolve lazily, so that `import harness` stays free of pandas and torch."""
    if name in {"load", "Comparison"}:
        from harness import comparison as compare

        return getattr(compare, name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
