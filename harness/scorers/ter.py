"""Translation edit rate."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from harness.scorers._sacrebleu import signature, statistics
from harness.scorers.base import Metric, Prediction, Scorer


class Ter(Scorer):
    """Edits (shifts among them) to the nearest reference for each 100 reference words (Snover et
    al., 2006, aclanthology.org/2006.amta-papers.25), by sacrebleu, whose signature the record
    holds."""

    VERSION = 1
    metrics = {
        "ter": Metric("ter", False, {"edits": "ter_edits", "ref_length": "ter_ref_length"}),
    }

    normalized: bool = False
    """Split punctuation off, as Tercom does when asked."""
    no_punct: bool = False
    """Drop punctuation."""
    asian_support: bool = False
    """With `normalized` or `no_punct`: split or drop Chinese and Japanese characters too."""
    case_sensitive: bool = False
    """Keep upper case."""

    @cached_property
    def _metric(self) -> Any:
        from sacrebleu.metrics import TER

        return TER(
            normalized=self.normalized, no_punct=self.no_punct, asian_support=self.asian_support,
            case_sensitive=self.case_sensitive,
        )  # fmt: skip

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        return [
            {"ter_edits": edits, "ter_ref_length": length}
            for edits, length in statistics(self._metric, predictions)
        ]

    def provenance(self) -> dict[str, Any]:
        return signature(self._metric)
