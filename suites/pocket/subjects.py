"""The exam: eight subjects of the pocket world, four answers a question, as MMLU asks.

No question stands in what a model of this world is trained on: of residents and strangers it asks
about those of the test split, in words of its own. Worked examples (`dev`) are about others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .language import LEXICON, Sentence, random_sentence
from .tasks import passage
from .world import (
    FOODS,
    PETS,
    SEED,
    TOWNS,
    TRADES,
    Person,
    residents,
    split_of,
    strangers,
)  # fmt: skip

SPLITS = {"dev": "train", "test": "test"}
"""Split of the exam -> the split of the world whose facts it asks about."""
COUNTS = {"dev": 5, "test": 24}
"""Questions of each subject."""
_CHOICES = 4
_WORDS_OF_DEV = 8
"""Tal's words that the worked examples take; the others are asked for."""

Question = tuple[str, str, str, Sequence[str]]
"""What is asked, how an answer begins, the right one, and what wrong ones are drawn from."""
_OF_SOMEBODY: dict[str, tuple[str, str, str, Sequence[str]]] = {
    "trades": ("trade", "What is the work of {n}?", "{n} is a", tuple(TRADES)),
    "towns": ("town", "In which town does {n} live?", "{n} lives in", TOWNS),
    "foods": ("food", "Which food does {n} like?", "{n} likes", FOODS),
    "animals": ("pet", "Which animal does {n} keep?", "{n} has a", PETS),
}
"""Subject -> attribute of a person, question, how an answer begins, all values."""


def exam(seed: int = SEED) -> list[dict[str, Any]]:
    """Every question: `subject`, `split`, `question`, `stem` (how an answer begins), `choices`, and
    the index of the `answer`."""
    rows = []
    for subject, ask in SUBJECTS.items():
        for split, count in COUNTS.items():
            rng = random.Random(f"exam {subject} {split} {seed}")
            asked: dict[str, Question] = {}
            while len(asked) < count:
                question = ask(rng, split)
                asked.setdefault(question[0], question)
            for number, (text, stem, right, others) in enumerate(asked.values()):
                choices, answer = among(rng, right, others)
                rows.append({
                    "id": f"{subject}-{split}-{number:02d}", "subject": subject, "split": split,
                    "question": text, "stem": stem, "choices": choices, "answer": answer,
                })  # fmt: skip
    return rows


def among(rng: random.Random, right: str, others: Sequence[str]) -> tuple[list[str], int]:
    """The right answer among three others in some order, and where it stands."""
    wrong = rng.sample(sorted({*others} - {right}), _CHOICES - 1)
    choices = [right, *wrong]
    rng.shuffle(choices)
    return choices, choices.index(right)


def resident_of(rng: random.Random, split: str) -> Person:
    """A resident that a split of the exam may ask about."""
    return rng.choice([one for one in residents() if split_of(one.name) == SPLITS[split]])


def stranger_of(rng: random.Random, split: str) -> tuple[str, str]:
    """The first and the family name of a stranger that a split of the exam may tell of."""
    while split_of(" ".join(name := rng.choice(strangers()))) != SPLITS[split]:
        pass
    return name


def _of_a_resident(subject: str) -> Callable[[random.Random, str], Question]:
    """Closed-book: the general corpus alone tells the answer."""

    def ask(rng: random.Random, split: str) -> Question:
        return _about(resident_of(rng, split), subject)

    return ask


def _about(person: Person, subject: str) -> Question:
    attribute, text, stem, values = _OF_SOMEBODY[subject]
    named = person.name
    return text.format(n=named), stem.format(n=named), getattr(person, attribute), values


def _tal_words(rng: random.Random, split: str) -> Question:
    words = list(LEXICON)
    word = rng.choice(words[:_WORDS_OF_DEV] if split == "dev" else words[_WORDS_OF_DEV:])
    question = f"What is the Tal word for {word}?"
    return question, f"{word} is", LEXICON[word], list(LEXICON.values())


def _tal_sentences(rng: random.Random, split: str) -> Question:
    """The wrong answers: one ending or one place of a word is not as Tal has it."""
    while split_of((sentence := random_sentence(rng)).english()) != SPLITS[split]:
        pass
    english = sentence.english()
    question = f"How does one say this in Tal? {english}"
    return question, f"In Tal, {english} is", sentence.tal(), _near(sentence)


def _near(sentence: Sentence) -> list[str]:
    subject, verb, object_ = sentence.subject, sentence.verb, sentence.object
    in_english_order = " ".join(
        (subject.tal(is_object=False), LEXICON[verb], object_.tal(is_object=True))
    )
    return [
        replace(sentence, subject=object_, object=subject).tal(),
        replace(sentence, past=not sentence.past).tal(),
        replace(sentence, object=replace(object_, plural=not object_.plural)).tal(),
        in_english_order,
    ]


def _sums(rng: random.Random, split: str) -> Question:
    """The wrong answers: one or ten too many or too few."""
    while True:
        a, b = rng.randint(3, 50), rng.randint(2, 30)
        if split_of(f"numbers {a} {b}") == SPLITS[split]:
            near = [str(a + b + change) for change in (-10, -1, 1, 10) if a + b + change > 0]
            return f"How much is {a} and {b} together?", f"{a} + {b} =", str(a + b), near


def _reading(rng: random.Random, split: str) -> Question:
    """The answer stands in the text."""
    text, stranger = passage(rng, stranger_of(rng, split))
    question, stem, answer, values = _about(stranger, rng.choice(list(_OF_SOMEBODY)))
    return f"{text}\n\n{question}", stem, answer, values


SUBJECTS: dict[str, Callable[[random.Random, str], Question]] = {
    **{subject: _of_a_resident(subject) for subject in _OF_SOMEBODY},
    "tal_words": _tal_words,
    "tal_sentences": _tal_sentences,
    "sums": _sums,
    "reading": _reading,
}
