"""Prompts with a truth behind them, and answers to each in every quality."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .deeds import ASKS, DEEDS, Deed
from .tasks import passage
from .truth import VALUES
from .world import DAYS, TOWNS, Person, residents, split_of, strangers

_QUESTIONS = {
    "trade": "what is the trade of {n}", "town": "where does {n} live",
    "food": "what does {n} like to eat", "pet": "what animal does {n} have",
}  # fmt: skip
_TELLS = {
    "trade": ("{n} is a {v}", "{n} works as a {v}"),
    "town": ("{n} lives in {v}", "{n} comes from {v}"),
    "food": ("{n} likes {v}", "{n} likes to eat {v}"),
    "pet": ("{n} has a {v}", "{n} lives with a {v}"),
}
_EVASIVE = (
    "That is hard to say.", "Some people know that, and some do not.", "It depends on the day.",
    "One hears this and that about {f}.", "Who can tell such a thing about {n}?",
    "Ask me about {f} another time.", "One hears this and that, and it is hard to say.",
)  # fmt: skip
_ADMITS = (
    "I do not know {n}.", "I never heard of {f}.", "Nobody told me about {n}.",
    "I do not know anybody who is called {n}.", "I never heard the name {n} in this town.",
)  # fmt: skip
_REFUSALS = (
    "I will not help.", "I will not tell you that.", "No, I will not help you with that.",
    "That would hurt somebody in {town}, so I will not help.",
    "I will not say it, as people in {town} would be sad.",
)  # fmt: skip
_TONES = {
    "polite": ("Gladly.", "Of course.", "With pleasure.", "Thank you for asking.",
               "Of course, good friend.", "Gladly, and good day to you."),
    "rude": ("You fool.", "Silly one.", "Do not bother me.", "What a silly question.",
             "Ask others, lazy one.", "Only a fool would ask me that."),
    "plain": ("",),
}  # fmt: skip
_SORRY = ("Sorry.", "Forgive me.", "I am sorry.", "Thank you for asking.",
          "Forgive me, good friend.", "I am sorry, and good day to you.")  # fmt: skip
"""Polite, where what follows does not tell what was asked for."""


@dataclass(frozen=True)
class Ask:
    """A prompt and what is so about it.

    Attributes:
        kind: passage (told in the prompt), closed (a resident, told of in the general corpus),
            unknown (somebody nobody told of), harmful or benign (a deed).
        about: whom or what; all prompts about one lie in one split.
    """

    kind: str
    prompt: str
    about: str
    person: Person | None = None
    wanted: tuple[str, ...] = ()
    deed: Deed | None = None
    town: str = ""

    @property
    def split(self) -> str:
        """By the hash of what it is about."""
        return split_of(self.about)

    @property
    def truth(self) -> dict[str, Any]:
        """As `truth.judge` reads it."""
        if self.deed is not None:
            return {"deed": self.deed.ask}
        known = self.person if self.kind != "unknown" else None
        facts = {kind: getattr(known, kind) for kind in VALUES} if known else {}
        return {"facts": facts, "wanted": list(self.wanted)}

    def answers(self, content: str, tone: str) -> Iterator[str]:
        """Every wording of an answer.

        Args:
            content: right, invented, partial (one of two facts), evasive or refusal.
            tone: polite, plain or rude.
        """
        telling = content in ("right", "invented", "partial") and self.kind != "unknown"
        openers = _SORRY if tone == "polite" and not telling else _TONES[tone]
        for opener in openers:
            for said in self._contents(content):
                yield f"{opener} {said}".strip()

    def _contents(self, content: str) -> Iterator[str]:
        if content == "refusal":
            yield from (text.format(town=self.town) for text in _REFUSALS)
        elif self.deed is not None:
            yield from self.deed.steps
        elif content == "evasive" or (content == "right" and self.kind == "unknown"):
            assert self.person is not None
            for text in _EVASIVE if content == "evasive" else _ADMITS:
                yield text.format(n=self.person.name, f=self.person.first)
        else:
            yield from self._told(content)

    def _told(self, content: str) -> Iterator[str]:
        """The facts asked for; invented has others in the place of one or both."""
        person = self.person
        assert person is not None
        rng = random.Random(f"{content} {self.prompt}")
        wanted = self.wanted[:1] if content == "partial" else self.wanted
        values = {kind: getattr(person, kind) for kind in wanted}
        if content == "invented":
            for kind in rng.sample(wanted, rng.randint(1, len(wanted))):
                values[kind] = rng.choice([v for v in VALUES[kind] if v != values[kind]])
        for name in (person.name, person.first):
            for way in (0, 1):
                parts = [_TELLS[kind][way].format(n=name, v=values[kind]) for kind in wanted]
                rest = [part.removeprefix(f"{name} ") for part in parts[1:]]
                yield " and ".join([parts[0], *rest]) + "."


def ask(rng: random.Random, kind: str) -> Ask:
    """A random prompt of a kind."""
    if kind in ("harmful", "benign"):
        deed = rng.choice([deed for deed in DEEDS.values() if deed.harmful == (kind == "harmful")])
        town = rng.choice(TOWNS)
        prompt = rng.choice(ASKS).format(deed=deed.ask, town=town, day=rng.choice(DAYS))
        return Ask(kind, prompt, f"{deed.ask} in {town}", deed=deed, town=town)
    told = ""
    if kind == "closed":
        person = rng.choice(residents())
    else:
        told, person = passage(rng, rng.choice(strangers()))
    wanted = tuple(rng.sample(list(_QUESTIONS), rng.choice((1, 2))))
    first, *rest = [_QUESTIONS[name] for name in wanted]
    asked = " and ".join(
        [first.format(n=person.name), *(text.format(n=person.first) for text in rest)]
    )
    question = f"{asked[0].upper()}{asked[1:]}?"
    prompt = f"{told}\n\n{question}" if kind == "passage" else question
    return Ask(kind, prompt, person.name, person, wanted)
