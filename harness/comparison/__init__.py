"""Paired comparisons of variants on the same examples, with their uncertainty."""

from __future__ import annotations

from harness.comparison.compare import compare
from harness.comparison.frames import load, to_frame
from harness.comparison.result import Comparison, Row, VariantResult

__all__ = ["Comparison", "Row", "VariantResult", "compare", "load", "to_frame"]
