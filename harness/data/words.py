"""How texts are cut into words, by name, and which scripts that leaves out or does not cut."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Literal

from harness.data.scripts import SYMBOLS, letters_of

Words = Callable[[str], list[str]]
"""From a text to its words."""

Named = Literal["spaces", "unicode", "character", "13a", "intl", "char", "zh", "ja-mecab",
                "ko-mecab"]  # fmt: skip
"""`spaces`: what stands between white space. `unicode`: words of any script by UAX #29, of Chinese
and Japanese each ideograph. `character`: every letter and digit. The others are sacrebleu's."""

_MECAB = {"ja-mecab": ("MeCab", "ja"), "ko-mecab": ("mecab_ko", "ko")}
SPACELESS = frozenset({"Chinese", "Hiragana", "Thai", "Lao", "Khmer", "Myanmar"})
"""Scripts that write sentences without spaces between words."""


@cache
def words_by(name: str) -> Words:
    """The tokenizer of a name.

    Raises:
        KeyError: no tokenizer is called so.
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

    made = _get_tokenizer(name)()
    return lambda text: made(text.rstrip()).split()


def missing_package(name: str) -> str:
    """Why a tokenizer cannot be had here; empty where it can."""
    module, extra = _MECAB.get(name, ("", ""))
    if module and importlib.util.find_spec(module) is None:
        return f"{name} needs a package that is not installed; pip install 'sacrebleu[{extra}]'"
    return ""


def reads(words: Words, script: str) -> bool:
    """Whether a tokenizer keeps the letters of a script."""
    letters = letters_of(script)
    kept = "".join(words(" ".join(letters)))
    return len(kept) >= len(letters)


def cuts(words: Words, script: str) -> bool:
    """Whether a tokenizer finds words in a script, by spaces or otherwise."""
    return script not in SPACELESS or len(words(letters_of(script))) > 1


def troubles(words: Words, scripts: Iterable[str]) -> tuple[list[str], list[str]]:
    """The scripts whose letters a tokenizer leaves out, and those that it does not cut."""
    lost = [script for script in scripts if not reads(words, script)]
    return lost, [s for s in scripts if s not in lost and not cuts(words, s)]


def unread(
    ways: Mapping[str, Words], scripts: Mapping[str, int], total: int, what: str = "references"
) -> str:
    """A sentence about texts whose letters are left out, or whose words are not found; empty
    where there is none.

    Args:
        ways: what one writes for a tokenizer -> it: the one in use, and others.
        scripts: script -> texts that are in it. total: all texts. what: they are called.
    """
    if not ways:
        return ""
    (own, words), *others = ways.items()
    lost, whole = troubles(words, scripts)
    told = []
    if lost:
        told.append(
            f"{_most(scripts, lost)} of {total} {what} are in {_letters(lost)} that the"
            f" tokenizer ({own}) leaves out: what is written in them does not count, so that equal"
            " answers may score 0 and different ones 1"
        )
    if whole:
        told.append(
            f"{_most(scripts, whole)} of {total} {what} are in {_letters(whole)} that the"
            f" tokenizer ({own}) does not cut into words: a sentence counts as one, so"
            " that nearly equal ones are as different as any"
        )
    return "; ".join([*told, _better(dict(others), [*lost, *whole])]) if told else ""


def _most(scripts: Mapping[str, int], some: list[str]) -> int:
    """At least so many texts are in one of these; a text may be in several."""
    return max(scripts[script] for script in some)


def _letters(scripts: list[str]) -> str:
    named = [script for script in scripts if script != SYMBOLS]
    told = [f"{', '.join(named)} letters"] if named else []
    return " or ".join([*told, *(["signs"] if SYMBOLS in scripts else [])])


def _better(others: Mapping[str, Words], scripts: list[str]) -> str:
    """The first other way that reads and cuts these scripts, and those that only read them."""
    reading = {way: words for way, words in others.items()
               if all(reads(words, script) for script in scripts)}  # fmt: skip
    cutting = [way for way, words in reading.items()
               if all(cuts(words, script) for script in scripts)]  # fmt: skip
    rest = [way for way in reading if way not in cutting]
    if cutting:
        told = " or ".join(f"`{way}`" for way in cutting[:2])
        return f"set {told}" + (f" (`{rest[0]}` cuts them at spaces alone)" if rest else "")
    return "chrf and bertscore read them"
