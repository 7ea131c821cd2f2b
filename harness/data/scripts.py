"""Detects the scripts of texts by the Unicode names of their characters."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import islice

LATIN, OTHER_LATIN, SYMBOLS = "Latin", "non-English Latin", "no"
"""Names of scripts: the letters a to z and digits; other Latin letters, such as those with accents,
which tokenizers for English leave out; and texts without any letter or digit."""
_NAMES = {"CJK": "Chinese", "IDEOGRAPHIC": "Chinese", "KATAKANA-HIRAGANA": "Katakana"}
_SAMPLES = {SYMBOLS: "\u2605\u263a\u2665\u2713", "Chinese": "\u4e00\u4e01\u4e03\u4e07",
            "Hangul": "\uac00\ub098\ub2e4\ub77c", "Greek": "\u03b1\u03b2\u03b3\u03b4"}  # fmt: skip
"""Common letters of scripts whose first letters in Unicode are rare."""
_SHARE = 10
"""A text counts as written in a script if at least 1 of so many of its letters and digits is."""


def scripts_of(text: str) -> frozenset[str]:
    """The scripts of a text's letters and digits, such as Latin, Thai or Chinese (whose characters
    are also used in Japanese). SYMBOLS if it has no letter or digit; empty if there is no text."""
    if text.isascii():
        kinds = {LATIN} if any(map(str.isalnum, text)) else set()
        return frozenset(kinds or ({SYMBOLS} if text.strip() else set()))
    counts: Counter[str] = Counter()
    for character, times in Counter(text).items():
        if character.isalnum():
            counts[_script(character)] += times
    if not counts:
        return frozenset({SYMBOLS} if text.strip() else ())
    enough = counts.total() / _SHARE
    return frozenset(script for script, letters in counts.items() if letters >= enough)


def count_scripts(texts: Iterable[str]) -> dict[str, int]:
    """Script -> number of texts in it. A text may be in several scripts."""
    counts = Counter(script for text in texts for script in scripts_of(text))
    return dict(sorted(counts.items()))


@cache
def _script(character: str) -> str:
    first = unicodedata.name(character, "UNKNOWN").split(" ")[0]
    if character.isascii() or first in ("DIGIT", "MODIFIER", "SUPERSCRIPT", "SUBSCRIPT"):
        return LATIN
    if first == "LATIN":
        return OTHER_LATIN
    return _NAMES.get(first, first.title())


@cache
def letters_of(script: str) -> str:
    """A sample of up to four letters of a script."""
    if script in _SAMPLES:
        return _SAMPLES[script]
    letters = (chr(code) for code in range(0x1F000) if chr(code).isalnum())
    return "".join(islice((letter for letter in letters if _script(letter) == script), 4))
