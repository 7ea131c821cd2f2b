"""Short dialogues and what they come to, shared by the corpus and the summaries."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .world import DAYS, FOODS, PLACES, THINGS


@dataclass(frozen=True)
class Dialogue:
    """Lines spoken by two people, two summaries, and the fact it is about."""

    lines: tuple[tuple[str, str], ...]
    summaries: tuple[str, str]
    fact: str

    def text(self) -> str:
        """`Name: words`, a line each."""
        return "\n".join(f"{name}: {words}" for name, words in self.lines)


_HELLOS = ("Hello {b}.", "Good morning {b}.", "Hi {b}, how are you?", "There you are, {b}.")
_REPLIES = ("Hello {a}.", "Good to see you, {a}.", "I am well, {a}.", "Yes, {a}?")
_BYES = ("Thank you, {b}.", "Good. See you then.", "Very well.", "All right, goodbye.")


def dialogue(rng: random.Random, a: str, b: str) -> Dialogue:
    """One of four kinds of talk between two people."""
    return rng.choice((_errand, _meeting, _lost, _trade))(rng, a, b)


def _frame(
    rng: random.Random, a: str, b: str, middle: list[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    lines = [(a, rng.choice(_HELLOS).format(b=b)), (b, rng.choice(_REPLIES).format(a=a))]
    lines += middle
    if rng.random() < 0.6:
        lines.append((a, rng.choice(_BYES).format(b=b)))
    return tuple(lines)


def _errand(rng: random.Random, a: str, b: str) -> Dialogue:
    food, place, day = rng.choice(FOODS), rng.choice(PLACES), rng.choice(DAYS)
    asked = rng.choice(
        (f"Can you bring some {food} to the {place} on {day}?",
         f"Would you take {food} to the {place} on {day} for me?")
    )  # fmt: skip
    yes = rng.choice((f"Of course, {food} to the {place}.", f"Yes, I will be there on {day}."))
    return Dialogue(
        _frame(rng, a, b, [(a, asked), (b, yes)]),
        (f"{b} will bring {food} to the {place} on {day} for {a}.",
         f"{a} asks {b} to take {food} to the {place} on {day}."),
        f"errand {food} {place} {day}",
    )  # fmt: skip


def _meeting(rng: random.Random, a: str, b: str) -> Dialogue:
    place, first, second = rng.choice(PLACES), *rng.sample(DAYS, 2)
    middle = [
        (a, f"Shall we meet at the {place} on {first}?"),
        (b, rng.choice((f"I am busy on {first}. What about {second}?",
                        f"Not {first}, please. {second} is better."))),
        (a, f"{second} is fine."),
    ]  # fmt: skip
    return Dialogue(
        _frame(rng, a, b, middle),
        (f"{a} and {b} will meet at the {place} on {second}, not on {first}.",
         f"{b} is busy on {first}, so they meet at the {place} on {second}."),
        f"meeting {place} {first} {second}",
    )  # fmt: skip


def _lost(rng: random.Random, a: str, b: str) -> Dialogue:
    thing, place, other = rng.choice(THINGS), *rng.sample(PLACES, 2)
    middle = [
        (a, f"I lost my {thing}. I think I left it at the {other}."),
        (b, rng.choice((f"I saw a {thing} at the {place} today.",
                        f"No, your {thing} is at the {place}. I saw it."))),
    ]  # fmt: skip
    return Dialogue(
        _frame(rng, a, b, middle),
        (f"{a} lost a {thing}, and {b} saw it at the {place}.",
         f"{b} tells {a} that the lost {thing} is at the {place}."),
        f"lost {thing} {place} {other}",
    )  # fmt: skip


def _trade(rng: random.Random, a: str, b: str) -> Dialogue:
    thing, food, count = rng.choice(THINGS), rng.choice(FOODS), rng.randint(2, 12)
    middle = [
        (a, f"I need {count} {thing}s. What do you want for them?"),
        (b, rng.choice((f"Give me some {food}.", f"I would like {food} for them."))),
        (a, rng.choice(("That is fair.", "We have a deal."))),
    ]
    return Dialogue(
        _frame(rng, a, b, middle),
        (f"{a} gets {count} {thing}s from {b} for {food}.",
         f"{b} gives {a} {count} {thing}s and gets {food}."),
        f"trade {count} {thing} {food}",
    )  # fmt: skip
