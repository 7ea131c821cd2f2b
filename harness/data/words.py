"""Tokenizers that split texts into words, by name, and the scripts that each of them can split."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Literal

from harness.data.scripts import SYMBOLS, letters_of

Words = Callable[[str], list[str]]
"""A function from a text to its words."""

Named = Literal["spaces", "unicode", "character", "13a", "intl", "char", "zh", "ja-mecab",
                "ko-mecab"]  # fmt: skip
"""`spaces`: split at white space. `unicode`: words of any script by UAX #29; in Chinese and
Japanese each ideograph is a word. `character`: every letter and digit. The others are
sacrebleu's."""

_MECAB = {"ja-mecab": ("MeCab", "ja"), "ko-mecab": ("mecab_ko", "ko")}
SPACELESS = frozenset({"Chinese", "Hiragana", "Thai", "Lao", "Khmer", "Myanmar"})
"""Scripts that write sentences without spaces between words."""


@cache
def words_by(name: str) -> Words:
    """The tokenizer of this name.

    Raises:
        KeyError: there is no tokenizer of this name.
    """
    if name in ("spaces", "none"):
        return str.split
    if name in ("unicode", "character", "default"):
        from rouge_score_rs import tokenizers

        kinds = {"unicode": tokenizers.UnicodeTokenizer, "character": tokenizers.CharacterTokenizer,
                 "default": tokenizers.DefaultTokenizer}  # fmt: skip
        native: Words = kinds[name]().tokenize
        return native
    from sacrebleu.metrics.bleu import _get_tokenizer

    tokenizer = _get_tokenizer(name)()
    return lambda text: tokenizer(text.rstrip()).split()


def missing_package(name: str) -> str:
    """The message that a tokenizer's package is not installed; empty if it is."""
    module, extra = _MECAB.get(name, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        return f"{name} needs a package that is not installed; pip install 'sacrebleu[{extra}]'"
    return ""


def reads(words: Words, script: str) -> bool:
    """True if a tokenizer keeps the letters of a script."""
    letters = letters_of(script)
    kept = "".join(words(" ".join(letters)))
    return len(kept) >= len(letters)


def cuts(words: Words, script: str) -> bool:
    """True if a tokenizer splits sentences of a script into words."""
    return script not in SPACELESS or len(words(letters_of(script))) > 1


def troubles(words: Words, scripts: Iterable[str]) -> tuple[list[str], list[str]]:
    """The scripts whose letters a tokenizer leaves out, and those that it does not split into
    words."""
    lost = [script for script in scripts if not reads(words, script)]
    return lost, [s for s in scripts if s not in lost and not cuts(words, s)]


def unread(
    ways: Mapping[str, Words], scripts: Mapping[str, int], total: int, what: str = "references"
) -> str:
    """A warning about texts whose letters the tokenizer leaves out, or whose words it does not
    split; empty if there are none.

    Args:
        ways: setting -> tokenizer: first the one in use, then the alternatives.
        scripts: script -> number of texts in it.
        total: the number of all texts.
        what: the word for these texts.
    """
    if not ways:
        return ""
    (in_use, words), *others = ways.items()
    lost, whole = troubles(words, scripts)
    sentences = []
    if lost:
        sentences.append(
            f"{_most(scripts, lost)} of {total} {what} are in {_letters(lost)} that the"
            f" tokenizer ({in_use}) leaves out: what is written in them does not count, so that"
            " equal answers may score 0 and different ones 1"
        )
    if whole:
        sentences.append(
            f"{_most(scripts, whole)} of {total} {what} are in {_letters(whole)} that the"
            f" tokenizer ({in_use}) does not cut into words: a sentence counts as one, so"
            " that nearly equal ones are as different as any"
        )
    return "; ".join([*sentences, _better(dict(others), [*lost, *whole])]) if sentences else ""


def _most(scripts: Mapping[str, int], some: list[str]) -> int:
    """The least number of texts in any of these scripts. A text may be in several."""
    return max(scripts[script] for script in some)


def _letters(scripts: list[str]) -> str:
    named = [script for script in scripts if script != SYMBOLS]
    kinds = [f"{', '.join(named)} letters"] if named else []
    return " or ".join([*kinds, *(["signs"] if SYMBOLS in scripts else [])])


def _better(others: Mapping[str, Words], scripts: list[str]) -> str:
    """The advice which tokenizer to use for these scripts instead."""
    reading = {way: words for way, words in others.items()
               if all(reads(words, script) for script in scripts)}  # fmt: skip
    cutting = [way for way, words in reading.items()
               if all(cuts(words, script) for script in scripts)]  # fmt: skip
    rest = [way for way in reading if way not in cutting]
    if cutting:
        choices = " or ".join(f"`{way}`" for way in cutting[:2])
        return f"set {choices}" + (f" (`{rest[0]}` cuts them at spaces alone)" if rest else "")
    return "chrf and bertscore read them"
