"""The scripts that texts are written in, as the names of their characters tell (Unicode)."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import islice

LATIN, OTHER_LATIN, SYMBOLS = "Latin", "non-English Latin", "no"
"""Script of the letters a to z and 0 to 9; of their kin with marks and the like, which tokenizers
made for English leave out; of texts without a letter or digit."""
_NAMES = {"CJK": "Chinese", "IDEOGRAPHIC": "Chinese", "KATAKANA-HIRAGANA": "Katakana"}
_SAMPLES = {SYMBOLS: "\u2605\u263a\u2665\u2713", "Chinese": "\u4e00\u4e01\u4e03\u4e07",
            "Hangul": "\uac00\ub098\ub2e4\ub77c", "Greek": "\u03b1\u03b2\u03b3\u03b4"}  # fmt: skip
"""Letters in common use, of scripts whose first ones in Unicode are not."""
_SHARE = 10
"""A text is in a script of which at least one of so many of its letters and digits is."""


def scripts_of(text: str) -> frozenset[str]:
    """The scripts of a text's letters and digits, such as Latin, Thai or Chinese (whose characters
    Japanese has too); SYMBOLS where there is none of either, nothing where there is no text."""
    if text.isascii():
        kinds = {LATIN} if any(map(str.isalnum, text)) else set()
        return frozenset(kinds or ({SYMBOLS} if text.strip() else set()))
    found: Counter[str] = Counter()
    for character, times in Counter(text).items():
        if character.isalnum():
            found[_script(character)] += times
    if not found:
        return frozenset({SYMBOLS} if text.strip() else ())
    enough = found.total() / _SHARE
    return frozenset(script for script, letters in found.items() if letters >= enough)


def count_scripts(texts: Iterable[str]) -> dict[str, int]:
    """Script -> the texts that are in it; one may be in several."""
    found = Counter(script for text in texts for script in scripts_of(text))
    return dict(sorted(found.items()))


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
    """Four letters of a script, or as many as there are, as a sample of what is written in it."""
    if script in _SAMPLES:
        return _SAMPLES[script]
    letters = (chr(code) for code in range(0x1F000) if chr(code).isalnum())
    return "".join(islice((own for own in letters if _script(own) == script), 4))
