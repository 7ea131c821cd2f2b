"""BLEU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from harness.data.words import Words, words_by
from harness.scorers._sacrebleu import signature, statistics
from harness.scorers._words import SacrebleuName, WordScorer, named
from harness.scorers.base import Metric, Prediction


class Bleu(WordScorer):
    """Corpus BLEU of 0 to 100 (Papineni et al., 2002, aclanthology.org/P02-1040), by sacrebleu
    (Post, 2018, aclanthology.org/W18-6319), whose signature the record holds.

    The lengths and n-gram counts of each example are kept, so that the score and its interval are
    those of the whole corpus, not of a mean over sentences. With several references, n-gram counts
    are clipped by the largest count in any of them, and the closest reference length counts.
    """

    VERSION = 1
    needs_references = True

    tokenize: SacrebleuName = "13a"
    """Tokenizer of sacrebleu: `13a` as WMT uses it; for scripts without spaces `zh` (Chinese),
    `ja-mecab` (Japanese), `char` (any); `intl`, `ko-mecab`; `none`."""
    lowercase: bool = False
    """Compare in lower case."""
    smooth: Literal["exp", "none"] = "exp"
    """Smoothing of n-gram orders without a match; it only matters in small test sets."""
    effective_order: bool = False
    """Leave out n-gram orders that are longer than every output."""
    max_ngram_order: int = Field(4, ge=1)
    """Longest n-gram."""

    def words(self) -> Mapping[str, Words]:
        return named("tokenize", self.tokenize, "zh", "char")

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
        predictions = list(predictions)
        self.look(predictions)
        names = [f"bleu_{column}" for column in self._columns]
        return [dict(zip(names, row, strict=True)) for row in statistics(self._metric, predictions)]

    def look(self, predictions: Iterable[Prediction]) -> None:
        """Also notes where all references are shorter than the longest n-gram: BLEU is then 0."""
        predictions = list(predictions)
        super().look(predictions)
        cut, order = words_by(self.tokenize), self.max_ngram_order
        longest: dict[str, int] = {}
        for p in predictions:
            longest[p.group] = max([longest.get(p.group, 0), *(len(cut(r)) for r in p.references)])
        short = [group for group, words in longest.items() if words < order]
        if self.effective_order or not short:
            return
        where = (
            "" if len(short) == len(longest) else f" of {', '.join(sorted(short)) or 'no family'}"
        )
        note = (
            f"no reference{where} has {order} words, so that BLEU is 0 for every answer of their"
            " length, equal ones too; set `effective_order: true`, or a lower `max_ngram_order`"
        )
        self._seen["notes"] = [*self._seen.get("notes", ()), note]

    def provenance(self) -> dict[str, Any]:
        return {**signature(self._metric), **super().provenance()}
