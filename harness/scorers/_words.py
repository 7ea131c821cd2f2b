"""What scorers over words share: they check that their tokenizer finds words in the references."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, PrivateAttr

from harness.core.component import AddedLater
from harness.data.scripts import count_scripts, scripts_of
from harness.data.words import Named, Words, missing_package, troubles, unread, words_by
from harness.scorers.base import Prediction, Scorer


class WordScorer(Scorer):
    """A scorer over words. The report says where its tokenizer finds no words in a reference."""

    _seen: dict[str, Any] = PrivateAttr(default_factory=dict)

    def provenance(self) -> dict[str, Any]:
        return dict(self._seen)

    def score_all(self, predictions: Iterable[Prediction]) -> list[dict[str, float]]:
        predictions = list(predictions)
        self.look(predictions)
        return [self.score(prediction) for prediction in predictions]

    def look(self, predictions: Iterable[Prediction]) -> None:
        """Keeps notes about references, or answers, in scripts that the tokenizer finds no words
        in."""
        predictions = list(predictions)
        references = [reference for p in predictions for reference in p.references]
        if not references:
            self._look_at_answers([text for p in predictions for text in (p.text, *p.samples)])
            return
        note = self.unread(count_scripts(references), len(references))
        if note:
            words = next(iter(self.words().values()))
            bad = {s for scripts in troubles(words, count_scripts(references)) for s in scripts}
            count = sum(not scripts_of(reference).isdisjoint(bad) for reference in references)
            self._seen.update(references_unread=count, notes=[note])

    def _look_at_answers(self, texts: list[str]) -> None:
        """The same of answers, for scorers that read no references."""
        if note := unread(self.words(), count_scripts(texts), len(texts), "answers"):
            self._seen["answer_notes"] = [note]


def require_tokenizer(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: the package that has this tokenizer is not installed.
    """
    if reason := missing_package(name):
        raise ValueError(reason)
    return name


Installed = AfterValidator(require_tokenizer)
SacrebleuName = Annotated[
    Literal["13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none"], Installed
]
"""A tokenizer of sacrebleu by its name."""


def named(field: str, in_use: str, *others: str) -> Mapping[str, Words]:
    """The YAML of a tokenizer (`tokenize: zh`) -> how it cuts texts; the one in use first."""
    return {f"{field}: {name}": words_by(name) for name in dict.fromkeys((in_use, *others))}


class TokenizedScorer(WordScorer):
    """A word scorer with a choice of tokenizers; the default cuts at white space."""

    tokenize: Annotated[Named, Installed, AddedLater] = "spaces"
    """What a word is: `spaces`, what stands between white space (a sentence in Chinese or Thai is
    then one word); `unicode`, by the rules of UAX #29 in any script; `character`, every letter and
    digit; or by sacrebleu's tokenizers `13a`, `intl`, `char`, `zh`, `ja-mecab` and `ko-mecab`."""

    def words(self) -> Mapping[str, Words]:
        return named("tokenize", self.tokenize, "unicode", "character")

    def cut(self, text: str) -> list[str]:
        """The words of a text."""
        return words_by(self.tokenize)(text)
