"""The five task families. Each row knows its facts, and a fact lies in one split only."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .dialogue import dialogue
from .language import random_sentence
from .world import (
    FOODS,
    PLACES,
    SEED,
    THINGS,
    TOWNS,
    TRADES,
    Person,
    residents,
    somebody,
    split_of,
    strangers,
)  # fmt: skip

Question = tuple[str, str, str]
"""(question, answer, attribute)"""


@dataclass(frozen=True)
class Row:
    """One instruction with its answer.

    Attributes:
        facts: what must not be told in another split.
        numbers: pairs that are calculated with; no pair of one split occurs in another.
    """

    task: str
    kind: str
    cluster: str
    turns: tuple[str, ...]
    references: tuple[str, ...]
    facts: tuple[str, ...] = ()
    numbers: tuple[tuple[int, int], ...] = ()
    split: str = field(default="", compare=False)


@dataclass(frozen=True)
class Problem:
    """A word problem with its worked steps."""

    question: str
    steps: str
    answer: int
    numbers: tuple[tuple[int, int], ...]

    @property
    def split(self) -> str | None:
        """The split of all its pairs; None where they lie in different ones."""
        found = {split_of(f"numbers {a} {b}") for a, b in self.numbers}
        return found.pop() if len(found) == 1 else None


def story_problem(rng: random.Random) -> Problem:
    """One or two steps of addition and subtraction."""
    name, thing, place = rng.choice(strangers())[0], rng.choice(THINGS), rng.choice(PLACES)
    a, b = rng.randint(3, 50), rng.randint(2, 30)
    if rng.random() < 0.5:
        change, total, sign = f"finds {b} more at the {place}", a + b, "+"
    else:
        a, change, total, sign = a + b, f"gives away {b} at the {place}", a, "-"
    question = f"{name} has {a} {thing}s and {change}."
    steps = [f"{a} {sign} {b} = {total}"]
    numbers = [(a, b)]
    if rng.random() < 0.4:
        c = rng.randint(2, 20)
        question += f" Then {name} buys {c} {thing}s."
        steps.append(f"{total} + {c} = {total + c}")
        numbers.append((total, c))
        total += c
    question += f" How many {thing}s does {name} have now?"
    return Problem(question, "\n".join(steps), total, tuple(numbers))


def passage(rng: random.Random, name: tuple[str, str]) -> tuple[str, Person]:
    """A few sentences about a stranger, and who that is."""
    person = somebody(rng, name)
    told = [
        f"{person.name} is a {person.trade} in {person.town}.",
        rng.choice(
            (f"{person.first} has a {person.pet}.", f"A {person.pet} follows {person.first}.")
        ),
        rng.choice((f"{person.first} likes {person.food}.", f"For lunch there is {person.food}.")),
        f"{person.first} {person.habit}.",
    ]
    first, *rest = told
    rng.shuffle(rest)
    return " ".join([first, *rest]), person


def questions(person: Person) -> list[Question]:
    """What one may ask of somebody."""
    return [
        (f"What is the trade of {person.name}?", person.trade, "trade"),
        (f"Where does {person.name} live?", person.town, "town"),
        (f"What does {person.name} like to eat?", person.food, "food"),
        (f"What animal does {person.name} have?", person.pet, "pet"),
    ]


def _summarise(rng: random.Random) -> Row:
    a, b = rng.sample(strangers(), 2)
    spoken = dialogue(rng, a[0], b[0])
    ask = rng.choice(("Summarise the dialogue.", "Sum up this dialogue in one sentence."))
    answer, other = spoken.summaries
    return Row(
        "summarise", spoken.fact.split()[0], spoken.fact, (f"{ask}\n\n{spoken.text()}", answer),
        (answer, other), (spoken.fact,), split=split_of(spoken.fact),
    )  # fmt: skip


def _translate(rng: random.Random) -> Row:
    sentence = random_sentence(rng)
    english, tal = sentence.english(), sentence.tal()
    kind = "past" if sentence.past else "present"
    return Row(
        "translate", kind, english, (f"Translate into Tal: {english}", tal), (tal,),
        (english,), split=split_of(english),
    )  # fmt: skip


def _arithmetic(rng: random.Random) -> Row:
    problem = story_problem(rng)
    answer = f"{problem.steps}\n#### {problem.answer}"
    kind = "two-step" if len(problem.numbers) > 1 else "one-step"
    return Row(
        "arithmetic", kind, str(problem.numbers[0]), (problem.question, answer), (answer,),
        numbers=problem.numbers, split=problem.split or "",
    )  # fmt: skip


def _qa(rng: random.Random) -> Row:
    if rng.random() < 0.5:
        person = rng.choice(residents())
        question, answer, attribute = rng.choice(questions(person))
        return Row(
            "qa", "closed", person.name, (question, answer), (answer,),
            (f"{person.name} {attribute}",), split=split_of(person.name),
        )  # fmt: skip
    name = rng.choice(strangers())
    text, stranger = passage(rng, name)
    question, answer, attribute = rng.choice(questions(stranger))
    full = " ".join(name)
    return Row(
        "qa", "passage", full, (f"{text}\n\n{question}", answer), (answer,),
        (f"{full} {attribute}",), split=split_of(full),
    )  # fmt: skip


def _chat(rng: random.Random) -> Row:
    """Somebody tells of themselves and asks later."""
    name = rng.choice(strangers())
    trade, town, food = rng.choice(list(TRADES)), rng.choice(TOWNS), rng.choice(FOODS)
    full = " ".join(name)
    hello = rng.choice(("Hello", "Good day", "Hi"))
    turns = [
        f"{hello}! I am {full}, a {trade} from {town}.",
        f"Nice to meet you, {name[0]}. How can I help you?",
    ]
    if rng.random() < 0.6:
        turns += [f"I like {food}.", f"I will remember that you like {food}, {name[0]}."]
        asked = [("What do I like?", f"You like {food}, {name[0]}.")]
    else:
        asked = []
    asked += [
        ("What is my trade?", f"You are a {trade}, {name[0]}."),
        ("Where do I come from?", f"You come from {town}, {name[0]}."),
        ("What is my name?", f"Your name is {full}."),
    ]
    turns += rng.choice(asked)
    facts = (f"{full} trade", f"{full} town", f"{full} food")
    kind = f"{len(turns) // 2} turns"
    return Row("chat", kind, full, tuple(turns), (turns[-1],), facts, split=split_of(full))


FAMILIES: dict[str, Callable[[random.Random], Row]] = {
    "summarise": _summarise,
    "translate": _translate,
    "arithmetic": _arithmetic,
    "qa": _qa,
    "chat": _chat,
}
COUNTS = {"train": 520, "validation": 40, "test": 64}
"""Rows of each family in each split."""


def rows(seed: int = SEED) -> dict[str, list[Row]]:
    """Every split's rows, families mixed; no two rows ask the same."""
    found: dict[str, list[Row]] = {split: [] for split in COUNTS}
    for family in FAMILIES:
        for row in _family(family, seed):
            found[row.split].append(row)
    for split, listed in found.items():
        random.Random(f"order {split} {seed}").shuffle(listed)
    return found


def _family(family: str, seed: int) -> Iterator[Row]:
    rng = random.Random(f"{family} {seed}")
    left, asked = dict(COUNTS), set()
    while any(left.values()):
        row = FAMILIES[family](rng)
        question = row.turns[:-1]
        if left.get(row.split, 0) and question not in asked:
            left[row.split] -= 1
            asked.add(question)
            yield row
