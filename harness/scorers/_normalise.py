"""Answer normalisation and word F1 of SQuAD (Rajpurkar et al., 2016, arXiv:1606.05250)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from harness.data.words import Words

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and extra white space."""
    bare = _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))
    return " ".join(bare.split())


def bare(references: Sequence[str]) -> list[str]:
    """A note that some references are articles or punctuation alone; none if there are no such."""
    count = sum(not normalise(text) for text in references if text.strip())
    if not count:
        return []
    return [
        f"{count} of {len(references)} references are articles (a, an, the) or punctuation alone,"
        " which normalising leaves nothing of: there an empty answer is right"
    ]


def word_f1(answer: str, reference: str, words: Words = str.split) -> float:
    """F1 over the words of the normalised texts. If one of them has no words, it is 1 if both have
    none, else 0.

    Args:
        words: cuts a normalised text; SQuAD's script does at white space.
    """
    said, wanted = words(normalise(answer)), words(normalise(reference))
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(said), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def extract(text: str, pattern: str | None) -> str:
    """The last match of `pattern`, or the first group of it that matched if there are groups; the
    whole text where the pattern does not match."""
    if pattern is None:
        return text
    matches = list(re.finditer(pattern, text))
    if not matches:
        return text
    last = matches[-1]
    return next((group for group in last.groups() if group is not None), last.group(0))
