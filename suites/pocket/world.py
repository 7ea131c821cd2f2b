"""Who lives in the pocket world, and what is so about them. All of it follows from one seed."""

from __future__ import annotations

import functools
import hashlib
import random
from dataclasses import dataclass

SEED = 7
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TOWNS = (
    "Orla", "Tamsey", "Brindle", "Korvan", "Selby", "Marn", "Duskholm", "Pellow", "Iven", "Rask",
    "Calder", "Wick",
)  # fmt: skip
PLACES = (
    "market", "mill", "bridge", "harbour", "garden", "school", "well", "barn", "square", "forest",
)  # fmt: skip
TRADES = {
    "baker": "bakes bread", "smith": "makes nails", "weaver": "weaves cloth",
    "fisher": "catches fish", "potter": "makes pots", "miller": "grinds corn",
    "shepherd": "keeps sheep", "carpenter": "builds tables", "tailor": "sews coats",
    "gardener": "grows roses", "teacher": "teaches children", "doctor": "heals the sick",
    "ferryman": "rows the ferry", "beekeeper": "keeps bees", "singer": "sings songs",
    "painter": "paints doors",
}  # fmt: skip
FOODS = (
    "plums", "barley soup", "goat cheese", "honey cake", "smoked trout", "lentils", "pears",
    "rye bread", "walnuts", "cabbage", "mushrooms", "apple pie",
)  # fmt: skip
PETS = ("cat", "dog", "goose", "hare", "parrot", "goat", "pony", "tortoise", "crow", "hedgehog")
HABITS = (
    "walks to the river at dawn", "counts the stars at night", "whistles while working",
    "writes letters on Sundays", "swims in the lake", "collects round stones",
    "drinks mint tea", "reads by the fire", "feeds the ducks", "sleeps after lunch",
    "mends old clocks", "dances in the rain",
)  # fmt: skip
THINGS = (
    "apple", "pear", "nail", "candle", "button", "egg", "book", "basket", "lamp", "spoon", "coin",
    "ribbon",
)  # fmt: skip
_ONSETS = ("M", "T", "L", "B", "K", "R", "S", "N", "D", "V", "P", "F", "G", "H", "J")
_MIDDLES = ("a", "e", "i", "o", "u")
_ENDS = ("ra", "lin", "no", "dek", "sa", "mi", "ven", "tor", "la", "ric", "na", "bo")
_FAMILIES = (
    "Ash", "Birch", "Crane", "Dale", "Elm", "Frost", "Grove", "Heath", "Ives", "Kettle", "Lark",
    "Moss", "Nettle", "Oaks", "Pike", "Quill", "Reed", "Stone", "Thorn", "Vale",
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """Somebody, with a fact for each thing one may ask."""

    first: str
    family: str
    trade: str
    town: str
    food: str
    pet: str
    habit: str
    age: int

    @property
    def name(self) -> str:
        """First and family name; nobody shares both."""
        return f"{self.first} {self.family}"


def first_names() -> list[str]:
    """Every first name there can be, in a fixed order."""
    return [onset + middle + end for onset in _ONSETS for middle in _MIDDLES for end in _ENDS]


def somebody(rng: random.Random, name: tuple[str, str]) -> Person:
    """A person with that name and random facts."""
    return Person(
        *name,
        trade=rng.choice(list(TRADES)),
        town=rng.choice(TOWNS),
        food=rng.choice(FOODS),
        pet=rng.choice(PETS),
        habit=rng.choice(HABITS),
        age=rng.randint(18, 80),
    )


def residents(count: int = 200, seed: int = SEED) -> list[Person]:
    """The people that the general corpus tells of; each has a first name of their own."""
    rng = random.Random(f"residents {seed}")
    firsts = rng.sample(first_names(), count)
    return [somebody(rng, (first, rng.choice(_FAMILIES))) for first in firsts]


@functools.cache
def strangers(seed: int = SEED) -> list[tuple[str, str]]:
    """Names of people that the general corpus never tells of, for passages and dialogues."""
    known = {person.first for person in residents(seed=seed)}
    return [(f, family) for f in first_names() if f not in known for family in _FAMILIES]


def split_of(fact: str) -> str:
    """The split that a fact belongs to, by its hash: whatever tells it stays on one side."""
    draw = int.from_bytes(hashlib.sha256(fact.encode()).digest()[:4]) % 100
    return "train" if draw < 78 else "validation" if draw < 85 else "test"
