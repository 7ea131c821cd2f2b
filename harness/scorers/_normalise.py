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
    """What a reader must know of references that are articles or punctuation alone."""
    count = sum(not normalise(text) for text in references if text.strip())
    if not count:
        return []
    return [
        f"{count} of {len(references)} references are articles (a, an, the) or punctuation alone,"
        " which normalising leaves nothing of: there an empty answer is right"
    ]


def word_f1(answer: str, reference: str, words: Words = str.split) -> float:
    """F1 over the words of the normalised texts; where one has none, whether both have none.

    Args:
        words: cuts a normalised text; SQuAD's script does at white space.
    """
    given, wanted = words(normalise(answer)), words(normalise(reference))
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(given), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def extract(text: str, pattern: str | None) -> str:
    """The last match of `pattern` (its first group that took part, if it has groups), else the
    whole text."""
    if pattern is None:
        return text
    found = list(re.finditer(pattern, text))
    if not found:
        return text
    last = found[-1]
    return next((group for group in last.groups() if group is not None), last.group(0))
