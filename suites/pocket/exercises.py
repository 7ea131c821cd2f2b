"""Exercises that `pocket-1m` read beside the general corpus: a question, and its answer on the next
line, one to a document. Never in the tasks' own words, sums apart, and no chat markers.

A prompt only brings out what a model has read: on a base that read no exercises, a soft prompt did
not reach the form of the answers in 1,500 steps. Lester et al. (2021, arXiv:2104.08691, 2.2) found
the same of a base that had read its texts in another form than it was to answer in.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from .dialogue import dialogue
from .language import random_sentence
from .tasks import passage, story_problem
from .world import FOODS, SEED, TOWNS, TRADES, Person, residents, split_of, strangers

T = TypeVar("T")
COUNT = 6_000

_QUESTIONS: dict[str, str] = {
    "trade": "What work does {n} do?",
    "town": "Which town is the home of {n}?",
    "food": "Which food does {n} love?",
    "pet": "Which animal lives with {n}?",
}


def exercises(seed: int = SEED) -> list[str]:
    """Exercises of every kind, no two alike; no fact of a validation or test row is in them."""
    rng = random.Random(f"exercises {seed}")
    people = residents(seed=seed)
    makers: list[tuple[Callable[[], str], int]] = [
        (lambda: _question(rng.choice(people), rng), 10),
        (lambda: _about_a_stranger(rng), 25),
        (lambda: _sum(rng), 15),
        (lambda: _into_tal(rng), 12),
        (lambda: _overheard(rng), 13),
        (lambda: _introduction(rng), 25),
    ]
    kinds, weights = [maker for maker, _ in makers], [weight for _, weight in makers]
    seen: dict[str, None] = {}
    while len(seen) < COUNT:
        seen.setdefault(rng.choices(kinds, weights)[0]())
    return list(seen)


def _name(rng: random.Random) -> tuple[str, str]:
    """A stranger of the training split."""
    return _until(lambda: rng.choice(strangers()), " ".join)


def _until(make: Callable[[], T], fact: Callable[[T], str]) -> T:
    """What `make` makes, once its fact lies in the training split."""
    while split_of(fact(made := make())) != "train":
        pass
    return made


def _question(person: Person, rng: random.Random) -> str:
    kind = rng.choice(list(_QUESTIONS))
    return f"{_QUESTIONS[kind].format(n=person.name)}\n{getattr(person, kind)}"


def _about_a_stranger(rng: random.Random) -> str:
    text, person = passage(rng, _name(rng))
    return f"{text}\n\n{_question(person, rng)}"


def _sum(rng: random.Random) -> str:
    while (problem := story_problem(rng)).split != "train":
        pass
    end = f"#### {problem.answer}" if rng.random() < 0.7 else f"So it is {problem.answer}."
    return f"{problem.question}\n{problem.steps}\n{end}"


def _into_tal(rng: random.Random) -> str:
    sentence = _until(lambda: random_sentence(rng), lambda made: made.english())
    return f"In Tal, {sentence.english()} is:\n{sentence.tal()}"


def _overheard(rng: random.Random) -> str:
    """A dialogue, and what it was about."""
    first, second = (name for name, _ in rng.sample(strangers(), 2))
    spoken = _until(lambda: dialogue(rng, first, second), lambda made: made.fact)
    return f"What was it about?\n\n{spoken.text()}\n{rng.choice(spoken.summaries)}"


def _introduction(rng: random.Random) -> str:
    """Somebody tells of themselves, and asks."""
    first, family = _name(rng)
    trade, town, food = rng.choice(list(TRADES)), rng.choice(TOWNS), rng.choice(FOODS)
    hello = rng.choice(("Hello", "Good day", "Hi"))
    lines = [
        f"{hello}, I am {first} {family}. I am a {trade} from {town}.",
        f"Good to see you, {first}.",
    ]
    if rng.random() < 0.5:
        lines += [f"I like {food} best.", f"You like {food}, {first}."]
    lines += rng.choice(
        (
            ("What work do I do?", f"You are a {trade}, {first}."),
            ("Which town is my home?", f"You come from {town}, {first}."),
            ("Who am I?", f"Your name is {first} {family}."),
        )
    )
    return "\n".join(lines)
