"""Translation edit rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from harness.data.words import Words
from harness.scorers._sacrebleu import signature, statistics
from harness.scorers._words import WordScorer
from harness.scorers.base import Metric, Prediction


class Ter(WordScorer):
    """Edits, shifts included, that turn the answer into the nearest reference, per 100 reference
    words (Snover et al., 2006, aclanthology.org/2006.amta-papers.25). sacrebleu computes it, and
    the record has its signature. The search for shifts is slow: it takes a minute for two texts of
    1,000 words that have little in common. Use chrf for long answers."""

    VERSION = 1
    needs_references = True
    metrics = {
        "ter": Metric("ter", False, {"edits": "ter_edits", "ref_length": "ter_ref_length"}),
    }

    normalized: bool = False
    """Make punctuation separate words, as Tercom's option does."""
    no_punct: bool = False
    """Remove punctuation."""
    asian_support: bool = False
    """With `normalized`, make each Chinese or Japanese character a word; with `no_punct`, remove
    their punctuation too."""
    case_sensitive: bool = False
    """Do not turn words into lower case."""

    @cached_property
    def _metric(self) -> Any:
        from sacrebleu.metrics import TER

        return TER(
            normalized=self.normalized, no_punct=self.no_punct, asian_support=self.asian_support,
            case_sensitive=self.case_sensitive,
        )  # fmt: skip

    def words(self) -> Mapping[str, Words]:
        asian = "normalized: true, asian_support: true"
        split = self.normalized and self.asian_support
        others = {} if split else {asian: _words(Ter(normalized=True, asian_support=True))}
        return {asian if split else "white space": _words(self), **others}

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        predictions = list(predictions)
        self.look(predictions)
        return [
            {"ter_edits": edits, "ter_ref_length": length}
            for edits, length in statistics(self._metric, predictions)
        ]

    def provenance(self) -> dict[str, Any]:
        return {**signature(self._metric), **super().provenance()}


def _words(scorer: Ter) -> Words:
    return lambda text: list(scorer._metric._preprocess_segment(text).split())
