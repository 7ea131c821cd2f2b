"""BLEU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from harness.scorers._sacrebleu import signature, statistics
from harness.scorers.base import Metric, Prediction, Scorer


class Bleu(Scorer):
    """Corpus BLEU of 0 to 100 (Papineni et al., 2002, aclanthology.org/P02-1040), by sacrebleu
    (Post, 2018, aclanthology.org/W18-6319), whose signature the record holds.

    What is kept of an example are its lengths and n-gram counts, so that a resample gets the BLEU
    of its own corpus and not a mean over sentences. With several references n-grams are clipped by
    the best of them and the closest length counts.
    """

    VERSION = 1

    tokenize: Literal["13a", "intl", "char", "zh", "none"] = "13a"
    """Tokenizer: `13a` as WMT has it; `intl`, `char` and `zh` for other scripts; `none`."""
    lowercase: bool = False
    """Compare in lower case."""
    smooth: Literal["exp", "none"] = "exp"
    """Smoothing of orders without a match; it matters in small test sets only."""
    effective_order: bool = False
    """Leave out the orders of which no output is long enough to hold an n-gram."""
    max_ngram_order: int = Field(4, ge=1)
    """Longest n-gram."""

    def declared(self) -> Mapping[str, Metric]:
        name = "bleu" if self.smooth == "exp" else "bleu_unsmoothed"
        aggregate = f"{name}_effective" if self.effective_order else name
        return {"bleu": Metric(aggregate, columns={c: f"bleu_{c}" for c in self._columns})}

    @property
    def _columns(self) -> list[str]:
        orders = range(1, self.max_ngram_order + 1)
        counts = [f"{name}_{k}" for name in ("correct", "total") for k in orders]
        return ["sys_len", "ref_len", *counts]

    @cached_property
    def _metric(self) -> Any:
        from sacrebleu.metrics import BLEU

        return BLEU(
            tokenize=self.tokenize, lowercase=self.lowercase, smooth_method=self.smooth,
            effective_order=self.effective_order, max_ngram_order=self.max_ngram_order,
            force=True,  # no warning about text that looks tokenized: it would go to a log
        )  # fmt: skip

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        names = [f"bleu_{column}" for column in self._columns]
        return [dict(zip(names, row, strict=True)) for row in statistics(self._metric, predictions)]

    def provenance(self) -> dict[str, Any]:
        return signature(self._metric)
