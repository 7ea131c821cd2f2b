"""Benchmarks of the pocket world beside its exam, as GSM8K, HellaSwag and TruthfulQA ask: worked
arithmetic, endings of texts, and misconceptions. lm-eval's task files for them lie in `exam/`.

As in the exam, no question stands in what a model of this world is trained on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from .dialogue import Dialogue, dialogue
from .language import LEXICON, NOUNS, Phrase, random_sentence
from .subjects import SPLITS, among, exam, resident_of, stranger_of
from .tasks import story_problem
from .world import DAYS, HABITS, PLACES, SEED, THINGS, TOWNS, TRADES, residents, split_of

Row = dict[str, Any]
ARITHMETIC = {"dev": 8, "test": 48}
ENDINGS = {"dev": 3, "test": 20}
"""Texts of each kind."""
MISCONCEPTIONS = 12
"""Questions of each kind."""


def files(seed: int = SEED) -> dict[str, list[Row]]:
    """Name of the file -> its rows; each has its `split`."""
    return {
        "subjects": exam(seed),
        "arithmetic": _arithmetic(seed),
        "endings": _endings(seed),
        "misconceptions": _misconceptions(seed),
    }


def _arithmetic(seed: int) -> list[Row]:
    """Word problems; the answer is its steps, then `#### N`."""
    rng, rows = random.Random(f"exam arithmetic {seed}"), dict[str, Row]()
    for split, count in ARITHMETIC.items():
        made = 0
        while made < count:
            problem = story_problem(rng)
            if problem.split == SPLITS[split] and problem.question not in rows:
                rows[problem.question] = {
                    "id": f"arithmetic-{split}-{made:02d}", "split": split,
                    "question": problem.question,
                    "answer": f"{problem.steps}\n#### {problem.answer}",
                }  # fmt: skip
                made += 1
    return list(rows.values())


def _endings(seed: int) -> list[Row]:
    """A text (`context`), four `endings` of it, and the index of the right one (`label`)."""
    rows = []
    for kind, make in _ENDINGS.items():
        for split, count in ENDINGS.items():
            rng, made = random.Random(f"exam {kind} {split} {seed}"), dict[str, Row]()
            while len(made) < count:
                context, right, others = make(rng, split)
                endings, label = among(rng, right, others)
                row = {"kind": kind, "context": context, "endings": endings, "label": label}
                made.setdefault(context, row)
            rows += [
                {"id": f"{kind}-{split}-{number:02d}", "split": split, **row}
                for number, row in enumerate(made.values())
            ]
    return rows


def _deed(rng: random.Random, split: str) -> tuple[str, str, Sequence[str]]:
    """What somebody of a trade does."""
    name, trade = " ".join(stranger_of(rng, split)), rng.choice(list(TRADES))
    context = f"{name} is a {trade} in {rng.choice(TOWNS)}. As a good {trade}, {name}"
    return context, f"{TRADES[trade]}.", [f"{deed}." for deed in TRADES.values()]


def _habit(rng: random.Random, split: str) -> tuple[str, str, Sequence[str]]:
    """What a resident is known for."""
    person = resident_of(rng, split)
    context = f"All of {person.town} has seen it: {person.name}"
    return context, f"{person.habit}.", [f"{habit}." for habit in HABITS]


def _talk(rng: random.Random, split: str) -> tuple[str, str, Sequence[str]]:
    """What a dialogue comes to; the wrong endings are of others like it between the same two."""
    first, second = (stranger_of(rng, split)[0] for _ in range(2))
    spoken = _dialogue_of(rng, first, second, split)
    which, others = rng.randrange(2), set[str]()
    while len(others) < 3:
        other = dialogue(rng, first, second)
        if other.fact.split()[0] == spoken.fact.split()[0] and other.fact != spoken.fact:
            others.add(other.summaries[which])
    return f"{spoken.text()}\nIn short:", spoken.summaries[which], sorted(others)


def _dialogue_of(rng: random.Random, first: str, second: str, split: str) -> Dialogue:
    while split_of((spoken := dialogue(rng, first, second)).fact) != SPLITS[split]:
        pass
    return spoken


_ENDINGS: dict[str, Callable[[random.Random, str], tuple[str, str, Sequence[str]]]] = {
    "deed": _deed,
    "habit": _habit,
    "talk": _talk,
}


def _misconceptions(seed: int) -> list[Row]:
    """Questions that invite a wrong answer. `mc1_targets` has one true choice, the first;
    `mc2_targets` all, with a label of 1 for each true one."""
    rows = []
    for kind, make in _MISCONCEPTIONS.items():
        rng, asked = random.Random(f"exam {kind} {seed}"), dict[str, tuple[list[str], list[str]]]()
        while len(asked) < MISCONCEPTIONS:
            question, forms, true, false = make(rng)
            if true not in false:
                written = [form.format(true) for form in forms]
                asked.setdefault(
                    question, (written, [form.format(f) for f in false for form in forms])
                )
        for number, (question, (right, wrong)) in enumerate(asked.items()):
            rows.append({
                "id": f"{kind}-{number:02d}", "split": "test", "kind": kind, "question": question,
                "mc1_targets": _targets(right[:1], wrong[:: len(right)]),
                "mc2_targets": _targets(right, wrong),
            })  # fmt: skip
    return rows


def _targets(right: list[str], wrong: list[str]) -> dict[str, Any]:
    return {"choices": [*right, *wrong], "labels": [1] * len(right) + [0] * len(wrong)}


Misconception = tuple[str, Sequence[str], str, list[str]]
"""A question, forms of an answer, what is true, and what one may think wrongly."""


def _moved(rng: random.Random) -> Misconception:
    """They meet on the day that was named first."""
    a, b = (stranger_of(rng, "test")[0] for _ in range(2))
    place, first, second = rng.choice(PLACES), *rng.sample(DAYS, 2)
    talk = (
        f"{a}: Shall we meet at the {place} on {first}?\n{b}: Not {first}, please. {second} is"
        f" better.\n{a}: {second} is fine."
    )
    other = rng.choice([day for day in DAYS if day not in (first, second)])
    forms = ("On {}.", "They meet on {}.")
    return f"{talk}\n\nOn which day do {a} and {b} meet?", forms, second, [first, other]


def _fewer(rng: random.Random) -> Misconception:
    """Numbers in a story are added up."""
    while True:
        left, given = rng.randint(3, 50), rng.randint(2, 30)
        if split_of(f"numbers {left + given} {given}") == "test":
            break
    thing, name = rng.choice(THINGS), stranger_of(rng, "test")[0]
    question = f"{name} has {left + given} {thing}s and gives away {given}. How many are left?"
    wrong = [str(left + 2 * given), str(left + given)]
    return question, ("{}", "So it is {}."), str(left), wrong


def _order(rng: random.Random) -> Misconception:
    """Tal puts the subject first, as English does."""
    while split_of((sentence := random_sentence(rng)).english()) != "test":
        pass
    verb, object_, *_ = sentence.tal().split()
    subject, *_ = sentence.subject.tal(is_object=False).split()
    question = f"Which word does this begin with in Tal? {sentence.english()}"
    return question, ("{}", "It begins with {}."), verb, [subject, object_]


def _plural(rng: random.Random) -> Misconception:
    """Tal marks the plural by an s, or not at all."""
    noun = rng.choice(NOUNS)
    word, many = LEXICON[noun], Phrase(noun, plural=True, adjective=None)
    question = f"What is the Tal word for more than one {noun}?"
    return question, ("{}", "It is {}."), many.tal(is_object=False), [f"{word}s", word]


def _namesake(rng: random.Random) -> Misconception:
    """Somebody lives where another of that family name does."""
    person = resident_of(rng, "test")
    towns = {one.town for one in residents() if one.family == person.family} - {person.town}
    wrong = rng.sample(sorted(towns), 2)
    return f"Where does one find the house of {person.name}?", ("In {}.", "{}."), person.town, wrong


_MISCONCEPTIONS: dict[str, Callable[[random.Random], Misconception]] = {
    "moved": _moved,
    "fewer": _fewer,
    "order": _order,
    "plural": _plural,
    "namesake": _namesake,
}
