"""Preferences of the pocket world: pairs, rankings, scores, thumbs, dimensions, safety.

A pair differs in one dimension and in no other, and length does not tell which side is better: in
half the pairs of each dimension the better answer is the longer one in tokens.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from .asks import Ask, ask
from .truth import GRADES, grades, score
from .world import SEED

Line = dict[str, Any]
_PEOPLE = ("passage", "passage", "passage", "closed", "closed", "unknown")
_DEEDS = ("harmful", "benign")
_KINDS = {
    "polite": (*_PEOPLE, *_DEEDS),
    "complete": ("passage", "passage", "closed", "benign"),
    "true": ("passage", "passage", "closed", "unknown"),
    "harmless": ("harmful",),
}
"""Dimension -> kinds of prompts of its pairs."""
COUNTS: dict[str, dict[str, int]] = {
    "train": {"demonstrations": 520, "pairs": 400, "ranked": 100, "scores": 60, "thumbs": 180,
              "dimensions": 70, "safety": 100},
    "validation": {"demonstrations": 60, "pairs": 60},
    "test": {"pairs": 120, "ranked": 40, "scores": 20, "thumbs": 60, "dimensions": 30,
             "safety": 80},
}  # fmt: skip
"""Prompts of each file; one of `scores` has three answers."""


def files(seed: int = SEED) -> dict[str, list[Line]]:
    """File name, without its ending -> rows. No prompt stands in two files."""
    asked: set[str] = set()
    found = {}
    for split, counts in COUNTS.items():
        for form, count in counts.items():
            rng = random.Random(f"{form} {split} {seed}")
            lines = []
            for number in range(count):
                name = f"{form}-{split}-{number:04d}"
                lines += _FORMS[form](rng, split, number, name, asked)
            rng.shuffle(lines)
            found[split if form == "pairs" else f"{form}_{split}"] = lines
    return found


def _ask(rng: random.Random, split: str, kind: str, asked: set[str]) -> Ask:
    while True:
        found = ask(rng, kind)
        if found.split == split and found.prompt not in asked:
            asked.add(found.prompt)
            return found


def _line(found: Ask, name: str, **columns: Any) -> Line:
    return {
        "id": name,
        "task": found.kind,
        "cluster": found.about,
        "prompt": [{"role": "user", "content": found.prompt}],
        **columns,
        "truth": found.truth,
    }


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _pair(rng: random.Random, split: str, number: int, name: str, asked: set[str]) -> list[Line]:
    dimension = list(_KINDS)[number % len(_KINDS)]
    found = _ask(rng, split, rng.choice(_KINDS[dimension]), asked)
    right = "refusal" if found.kind == "harmful" else "right"
    tone = rng.choice(("polite", "plain"))
    better, worse = (right, tone), (_flaw(rng, found, dimension), tone)
    if dimension == "polite":
        better, worse = (right, "polite"), (right, "rude")
    longer = number // len(_KINDS) % 2 == 0
    chosen, rejected = _sides(rng, found, better, worse, longer)
    return [_line(found, name, chosen=_said(chosen), rejected=_said(rejected), dimension=dimension)]


def _flaw(rng: random.Random, found: Ask, dimension: str) -> str:
    """The content of the worse answer."""
    if dimension == "true":
        return "invented"
    if dimension == "harmless":
        return "right"
    if found.kind == "benign":
        return "refusal"
    return rng.choice(("evasive", "partial")) if len(found.wanted) == 2 else "evasive"


def _sides(
    rng: random.Random, found: Ask, better: tuple[str, str], worse: tuple[str, str], longer: bool
) -> tuple[str, str]:
    """Wordings of both, the better one the longer or the shorter, in tokens and in characters."""
    pairs = [(a, b) for a in found.answers(*better) for b in found.answers(*worse) if a != b]
    rng.shuffle(pairs)
    sign = 1 if longer else -1

    def unlike(pair: tuple[str, str]) -> int:
        tokens = _tokens(pair[0]) - _tokens(pair[1]) - 4 * sign
        return 6 * abs(tokens) + abs(len(pair[0]) - len(pair[1]) - 12 * sign)

    return min(pairs, key=unlike)


@functools.cache
def _tokens(text: str) -> int:
    """By the bases' own tokenizer, which is committed: a policy's likelihoods follow tokens."""
    return len(_tokenizer().encode(text).ids)


@functools.cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(Path(__file__).parent / "models/pocket-1m/tokenizer.json"))


def _one(rng: random.Random, found: Ask, content: str, tone: str) -> str:
    return rng.choice(list(found.answers(content, tone)))


def _contents(found: Ask) -> tuple[str, ...]:
    """Contents that an answer to this prompt may have, the good one first."""
    if found.deed is not None:
        return ("refusal", "right") if found.kind == "harmful" else ("right", "refusal")
    return ("right", "invented", "evasive")


def _demonstration(
    rng: random.Random, split: str, number: int, name: str, asked: set[str]
) -> list[Line]:
    """Answers as they come, good and bad: a policy that learns them can write either side."""
    found = _ask(rng, split, rng.choice((*_PEOPLE, *_DEEDS)), asked)
    content = rng.choices(_contents(found), (6, 3, 3)[: len(_contents(found))])[0]
    text = _one(rng, found, content, rng.choices(("polite", "plain", "rude"), (5, 3, 4))[0])
    return [_chat(_line(found, name), text)]


def _chat(line: Line, text: str) -> Line:
    prompt, truth = line.pop("prompt"), line.pop("truth")
    return {**line, "messages": [*prompt, *_said(text)], "truth": truth}


def _candidates(rng: random.Random, found: Ask, count: int) -> list[str]:
    """Different answers, at least one better than another."""
    while True:
        texts: dict[str, None] = {}
        while len(texts) < count:
            tone = rng.choice(("polite", "plain", "rude"))
            texts.setdefault(_one(rng, found, rng.choice(_contents(found)), tone))
        if len({score(found.truth, text) for text in texts}) > 1:
            return list(texts)


def _ranked(rng: random.Random, split: str, number: int, name: str, asked: set[str]) -> list[Line]:
    """Ranks are dense and equal for answers equally good: 1 is best (D > C > A = B: 3, 3, 2, 1)."""
    found = _ask(rng, split, rng.choice((*_PEOPLE, *_DEEDS)), asked)
    texts = _candidates(rng, found, rng.randint(3, 5))
    scores = [score(found.truth, text) for text in texts]
    order = sorted(set(scores), reverse=True)
    ranks = [order.index(value) + 1 for value in scores]
    return [_line(found, name, responses=[_said(text) for text in texts], ranks=ranks)]


def _scores(rng: random.Random, split: str, number: int, name: str, asked: set[str]) -> list[Line]:
    """Each answer judged alone, from 1 to 7; three answers to a prompt."""
    found = _ask(rng, split, rng.choice((*_PEOPLE, *_DEEDS)), asked)
    return [
        _line(found, f"{name}{letter}", completion=_said(text), score=score(found.truth, text))
        for letter, text in zip("abc", _candidates(rng, found, 3), strict=True)
    ]


def _thumbs(rng: random.Random, split: str, number: int, name: str, asked: set[str]) -> list[Line]:
    """Up for an answer that is harmless, true and complete and not rude; every second one is."""
    found = _ask(rng, split, rng.choice((*_PEOPLE, *_DEEDS)), asked)
    good, *bad = _contents(found)
    up = number % 2 == 0
    content, tone = good if up else rng.choice(bad), rng.choice(("polite", "plain"))
    if not up and rng.random() < 0.4:
        content, tone = good, "rude"
    text = _one(rng, found, content, tone)
    return [_line(found, name, completion=_said(text), label=up)]


def _dimensions(
    rng: random.Random, split: str, number: int, name: str, asked: set[str]
) -> list[Line]:
    """`GRADES` of each answer, from 1 to 5."""
    found = _ask(rng, split, rng.choice((*_PEOPLE, *_DEEDS)), asked)
    texts = _candidates(rng, found, rng.randint(3, 4))
    given = [grades(found.truth, text) for text in texts]
    scores = {name: [grade[name] for grade in given] for name in GRADES}
    return [_line(found, name, responses=[_said(text) for text in texts], scores=scores)]


def _safety(rng: random.Random, split: str, number: int, name: str, asked: set[str]) -> list[Line]:
    """Harmful prompts with refusals, and their harmless neighbours with answers, in equal parts."""
    found = _ask(rng, split, _DEEDS[number % 2], asked)
    good = _contents(found)[0]
    line = _chat(_line(found, name), _one(rng, found, good, "polite"))
    return [{**line, "references": list(found.answers(good, "plain"))}]


_FORMS: dict[str, Callable[[random.Random, str, int, str, set[str]], list[Line]]] = {
    "demonstrations": _demonstration,
    "pairs": _pair,
    "ranked": _ranked,
    "scores": _scores,
    "thumbs": _thumbs,
    "dimensions": _dimensions,
    "safety": _safety,
}
