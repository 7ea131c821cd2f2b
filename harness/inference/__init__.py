"""Generation and exact scoring with a loaded model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.inference.lm import HarnessLM

__all__ = ["HarnessLM"]


def __getattr__(name: str) -> object:
    """`HarnessLM` is imported when it is asked for: lm-eval and torch take seconds."""
    if name == "HarnessLM":
        from harness.inference import lm

        return lm.HarnessLM
    raise AttributeError(f"module 'harness.inference' has no attribute {name!r}")
