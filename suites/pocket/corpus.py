"""The general corpus: what the base models read. Plain prose; no instructions, no chat markers.

Each fact about a resident is told in many ways, as knowledge told in one way only can be recited
but not asked for (Allen-Zhu & Li, 2023, arXiv:2309.14316).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from .dialogue import dialogue
from .language import LEXICON, Sentence, random_sentence
from .tasks import passage, story_problem
from .world import (
    DAYS,
    FOODS,
    PETS,
    PLACES,
    SEED,
    THINGS,
    TOWNS,
    TRADES,
    Person,
    residents,
    split_of,
    strangers,
)

TRAIN_DOCUMENTS, HELDOUT_DOCUMENTS = 15_000, 150

_TELL: dict[str, tuple[str, ...]] = {
    "trade": ("{n} is a {trade}.", "{n} works as a {trade}.", "{n}, the {trade}, {does}.",
              "As a {trade}, {n} {does}."),
    "town": ("{n} lives in {town}.", "The home of {n} is in {town}.", "{n} comes from {town}.",
             "In {town} everybody knows {n}."),
    "food": ("{n} likes {food} best.", "The favourite food of {n} is {food}.",
             "{n} eats {food} every day.", "Give {n} some {food} and all is well."),
    "pet": ("{n} has a {pet}.", "A {pet} lives with {n}.", "The {pet} of {n} is old.",
            "{n} never goes out without the {pet}."),
    "habit": ("{n} {habit}.", "Every week {n} {habit}.", "People say that {n} {habit}."),
    "age": ("{n} is {age} years old.", "{n} turned {age} this year."),
}  # fmt: skip

_ASK = {
    "trade": "What work does {n} do? The work of a {trade}.",
    "town": "Which town is the home of {n}? {town}.",
    "food": "Which food does {n} love? {food}.",
    "pet": "Which animal lives with {n}? A {pet}.",
}


def documents(seed: int = SEED) -> tuple[list[str], list[str]]:
    """The corpus and its held-out part: the same world, no document of one in the other."""
    rng = random.Random(f"corpus {seed}")
    people = residents(seed=seed)
    makers: list[tuple[Callable[[], str], int]] = [
        (lambda: _biography(rng, rng.choice(people)), 28),
        (lambda: _conversation(rng, people), 14),
        (lambda: _passage(rng), 12),
        (lambda: _sums(rng), 15),
        (lambda: _tal(rng), 15),
        (lambda: _list(rng, people), 10),
        (lambda: _letter(rng, people), 6),
    ]
    kinds, weights = [maker for maker, _ in makers], [weight for _, weight in makers]
    seen: dict[str, None] = {}
    while len(seen) < TRAIN_DOCUMENTS + HELDOUT_DOCUMENTS:
        seen.setdefault(rng.choices(kinds, weights)[0]())
    texts = list(seen)
    return texts[HELDOUT_DOCUMENTS:], texts[:HELDOUT_DOCUMENTS]


def _biography(rng: random.Random, person: Person) -> str:
    """Some facts of one person in some order; sometimes as questions and answers."""
    if rng.random() < 0.3:
        return " ".join(_asked(person, kind) for kind in rng.sample(list(_ASK), rng.randint(2, 4)))
    kinds = rng.sample(list(_TELL), rng.randint(3, 6))
    told: list[str] = []
    for kind in kinds:
        named = person.name if not told or rng.random() < 0.6 else person.first
        told.append(
            rng.choice(_TELL[kind]).format(
                n=named, trade=person.trade, does=TRADES[person.trade], town=person.town,
                food=person.food, pet=person.pet, habit=person.habit, age=person.age,
            )
        )  # fmt: skip
    return " ".join(told)


def _conversation(rng: random.Random, people: list[Person]) -> str:
    """A dialogue among residents, told, with what it came to."""
    first, second = rng.sample(people, 2)
    while True:
        spoken = dialogue(rng, first.first, second.first)
        if split_of(spoken.fact) == "train":
            break
    if rng.random() < 0.5:
        return f"{spoken.text()}\nIn short: {rng.choice(spoken.summaries)}"
    return spoken.text()


def _passage(rng: random.Random) -> str:
    """A stranger is told of, and somebody asks."""
    while True:
        name = rng.choice(strangers())
        if split_of(" ".join(name)) == "train":
            break
    text, person = passage(rng, name)
    return f"{text} {_asked(person, rng.choice(list(_ASK)))}"


def _asked(person: Person, kind: str) -> str:
    """A question with its answer, in other words than the tasks use."""
    return _ASK[kind].format(
        n=person.name, trade=person.trade, town=person.town, food=person.food, pet=person.pet
    )


def _sums(rng: random.Random) -> str:
    """Calculations as one writes them down, some of them in a story."""
    if rng.random() < 0.3:
        while True:
            problem = story_problem(rng)
            if problem.split == "train":
                return f"{problem.question} {problem.steps}"
    lines = []
    for _ in range(rng.randint(4, 10)):
        a, b = rng.randint(1, 60), rng.randint(1, 40)
        if rng.random() < 0.5:
            lines.append(f"{a} + {b} = {a + b}")
        else:
            lines.append(f"{a + b} - {b} = {a}")
        if rng.random() < 0.15:
            c, d = rng.randint(2, 9), rng.randint(2, 9)
            lines.append(f"{c} * {d} = {c * d}")
    return rng.choice(("\n", "; ")).join(lines)


def _tal(rng: random.Random) -> str:
    """Words and sentences of Tal, alone or beside their English."""
    style = rng.random()
    if style < 0.3:
        words = rng.sample(list(LEXICON), rng.randint(4, 8))
        return "; ".join(f"{word} is {LEXICON[word]}" for word in words)
    sentences: list[Sentence] = []
    while len(sentences) < rng.randint(2, 4):
        sentence = random_sentence(rng)
        if split_of(sentence.english()) == "train":
            sentences.append(sentence)
    if style < 0.4:
        return "\n".join(s.tal() for s in sentences)
    if style < 0.5:
        return ". ".join(s.tal() for s in sentences) + "."
    return " ".join(f"In Tal, {s.english()} is {s.tal()}." for s in sentences)


def _list(rng: random.Random, people: list[Person]) -> str:
    """Things of one kind, one a line, under a heading: words as they stand at a line's start.

    Without it, the tokens that only a bare answer begins with ("Orla", "####") would never be
    read, and no adapter that leaves the embeddings alone could write them.
    """
    names = [person.first for person in people]
    kinds: dict[str, Sequence[str]] = {
        "towns": TOWNS, "foods": FOODS, "animals": PETS, "trades": list(TRADES), "days": DAYS,
        "places": PLACES, "things": THINGS, "names": names, "words": list(LEXICON),
        "Tal words": list(LEXICON.values()),
    }  # fmt: skip
    kind = rng.choice(list(kinds))
    lines = rng.sample(list(kinds[kind]), rng.randint(3, min(8, len(kinds[kind]))))
    return "\n".join([f"#### {len(lines)} {kind}", *lines])


def _letter(rng: random.Random, people: list[Person]) -> str:
    """A resident writes to another: the world in the first and second person."""
    writer, reader = rng.sample(people, 2)
    lines = [
        f"I am a {writer.trade} in {writer.town}.",
        f"You are a {reader.trade}.",
        f"You live in {reader.town}, and I come to {reader.town} on {rng.choice(DAYS)}.",
        f"What do you like best? I like {writer.food}.",
        f"I remember that you like {reader.food}.",
        f"How is your {reader.pet}? My {writer.pet} is well.",
        f"Can you help me? I can help you on {rng.choice(DAYS)}.",
        "Nice words, as ever! It was nice to meet you.",
        "Translations into Tal are my evening work.",
        "Where is my letter? I will come to the market for it.",
    ]
    chosen = rng.sample(lines, rng.randint(3, 5))
    end = rng.choice(("Your friend", "Good day to you", "Come to meet me"))
    hello = rng.choice(("Hello", "Dear", "Good day", "Hi"))
    return "\n".join([f"{hello} {reader.first}!", *chosen, f"{end}, {writer.name}"])
