"""Compares variants on the same examples, with the uncertainty of each difference."""

from __future__ import annotations

from harness.comparison.compare import compare
from harness.comparison.frames import load, to_frame
from harness.comparison.result import Comparison, Row, VariantResult

__all__ = ["Comparison", "Row", "VariantResult", "compare", "load", "to_frame"]
