"""ROUGE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from harness.core.component import AddedLater
from harness.data.words import Words
from harness.scorers._words import WordScorer, named
from harness.scorers.base import SHARE, Metric, Prediction

TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class Rouge(WordScorer):
    """ROUGE-1, -2, -L and -Lsum F1 (Lin, 2004, aclanthology.org/W04-1013), equal to the last bit to
    those of the rouge-score package.

    With several references, each type takes the one with the best F1, as rouge-score's score_multi
    does. rougeLsum splits sentences at newlines. The package rouge-score-rs, which is compiled
    code, computes the scores; tests compare it with rouge-score (tests/benchmarks/rouge_speed.py
    measures both).
    """

    VERSION = 1
    needs_references = True
    metrics = {name: Metric(bounds=SHARE) for name in TYPES}

    use_stemmer: bool = True
    """Porter stemming, as in most published scores of summaries; only with the default
    tokenizer."""
    tokenizer: Annotated[Literal["default", "unicode", "character"], AddedLater] = "default"
    """`default`: words of a to z and 0 to 9, as in rouge-score. Answers in Hindi, Chinese or
    Russian then score 0, even equal ones, and Vietnamese or Czech words that only differ in their
    marks are equal (the report says so). `unicode`: words of any script by UAX #29; in Chinese and
    Japanese each ideograph is one. `character`: every letter and digit, for scripts without spaces,
    such as Thai. The last two fold case and form (NFKC), and do not stem."""

    def words(self) -> Mapping[str, Words]:
        return named("tokenizer", self.tokenizer, "unicode", "character")

    @cached_property
    def _scorer(self) -> Any:
        from rouge_score_rs import RougeScorer, tokenizers

        kinds = {"unicode": tokenizers.UnicodeTokenizer, "character": tokenizers.CharacterTokenizer}
        tokenizer = kinds[self.tokenizer]() if self.tokenizer in kinds else None
        return RougeScorer(list(TYPES), use_stemmer=self.use_stemmer, tokenizer=tokenizer)

    def score(self, prediction: Prediction) -> dict[str, float]:
        return self.score_all([prediction])[0]

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        predictions = list(predictions)
        self.look(predictions)
        # Equal pairs are common (short answers), and a score is a function of the pair.
        pairs = dict.fromkeys((r, p.text) for p in predictions for r in p.references)
        batch = self._scorer.score_batch([r for r, _ in pairs], [text for _, text in pairs])
        known = {
            pair: {name: rouge[name].fmeasure for name in TYPES}
            for pair, rouge in zip(pairs, batch, strict=True)
        }
        scores = []
        for prediction in predictions:
            each = [known[reference, prediction.text] for reference in prediction.references]
            scores.append({name: max(rouge[name] for rouge in each) for name in TYPES})
        return scores
