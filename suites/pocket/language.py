"""Tal, the constructed language of the pocket world.

A sentence is verb, object, subject. An adjective follows its noun. `-ir` marks the plural, `-a` the
object, `-en` the past on the verb; `ma` before the verb negates it. There are no articles.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .world import SEED

NOUNS = (
    "baker", "smith", "child", "king", "farmer", "woman", "man", "bird", "horse", "fish", "wolf",
    "river", "house", "stone", "tree", "boat", "road", "fire", "moon", "song",
)  # fmt: skip
PLURALS = {"child": "children", "woman": "women", "man": "men", "fish": "fish", "wolf": "wolves"}
VERBS = {
    "see": ("sees", "saw"), "find": ("finds", "found"), "love": ("loves", "loved"),
    "follow": ("follows", "followed"), "carry": ("carries", "carried"),
    "hear": ("hears", "heard"), "fear": ("fears", "feared"), "paint": ("paints", "painted"),
    "leave": ("leaves", "left"), "know": ("knows", "knew"),
}  # fmt: skip
ADJECTIVES = ("big", "small", "old", "red", "quiet", "brave", "cold", "happy")
_SYLLABLES = ("ka", "lo", "mi", "ru", "te", "su", "no", "ve", "pa", "do", "li", "go", "ze", "fu")


def lexicon(seed: int = SEED) -> dict[str, str]:
    """English -> Tal; every word has two syllables and no two words are equal."""
    rng = random.Random(f"tal {seed}")
    words = [a + b for a in _SYLLABLES for b in _SYLLABLES if a != b]
    rng.shuffle(words)
    english = [*NOUNS, *VERBS, *ADJECTIVES]
    return dict(zip(english, words, strict=False))


LEXICON = lexicon()


@dataclass(frozen=True)
class Phrase:
    """A noun with its number and perhaps an adjective."""

    noun: str
    plural: bool
    adjective: str | None

    def english(self) -> str:
        """`the old birds`."""
        noun = PLURALS.get(self.noun, f"{self.noun}s") if self.plural else self.noun
        return f"the {self.adjective} {noun}" if self.adjective else f"the {noun}"

    def tal(self, *, is_object: bool) -> str:
        """The noun with its endings, then the adjective."""
        word = LEXICON[self.noun] + ("ir" if self.plural else "") + ("a" if is_object else "")
        return f"{word} {LEXICON[self.adjective]}" if self.adjective else word


@dataclass(frozen=True)
class Sentence:
    """Who does what to whom."""

    subject: Phrase
    verb: str
    object: Phrase
    past: bool

    def english(self) -> str:
        """In English word order and inflection."""
        present, past = VERBS[self.verb]
        verb = past if self.past else self.verb if self.subject.plural else present
        return f"{self.subject.english()} {verb} {self.object.english()}"

    def tal(self) -> str:
        """In Tal."""
        verb = LEXICON[self.verb] + ("en" if self.past else "")
        return f"{verb} {self.object.tal(is_object=True)} {self.subject.tal(is_object=False)}"


def random_sentence(rng: random.Random) -> Sentence:
    """Any sentence; subject and object differ."""
    first, second = rng.sample(NOUNS, 2)
    return Sentence(
        _phrase(rng, first), rng.choice(list(VERBS)), _phrase(rng, second), rng.random() < 0.5
    )


def _phrase(rng: random.Random, noun: str) -> Phrase:
    adjective = rng.choice(ADJECTIVES) if rng.random() < 0.4 else None
    return Phrase(noun, rng.random() < 0.4, adjective)
