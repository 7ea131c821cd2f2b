"""Reads what a judge behind an endpoint replied: a choice, a rating, or an order of the answers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from harness.inference import completions
from harness.inference.reading import without_thinking
from harness.labellers.base import ranks_of

_MARKED = re.compile(r"\[\[(\w+)\]\]")
_BARE = re.compile(
    r"\W*(?:(?:answer|score|rating)\W+)?(\w+)(?:\s*(?:/|out of)\s*(\d+))?\W*", re.IGNORECASE
)
_SIGNS_BEFORE = tuple("-+.,<>~\u2212\u2013\u2248\u2264\u2265\u00b1")
_SIGNS_AFTER = tuple("-+%\u2030\u00b0")
"""What beside a number makes another one of it."""
_MARKED_ORDER = re.compile(r"\[\[(.+?)\]\](?!\])")
_NUMBERED = re.compile(r"(?<!\w)(\d{1,3})[.):](?!\d)")
_TITLE = re.compile(r"\b(?:answer|ranking|order|rank)s?\b", re.IGNORECASE)
_NAME = re.compile(r"(\w+)")
_BETWEEN = re.compile(r"[^\w<>=\u2264\u226a\u227a\u2a7d\u2190\u21d0~\u2248\u2243]*[>=]?"
                      r"[^\w<>=\u2264\u226a\u227a\u2a7d\u2190\u21d0~\u2248\u2243]*")  # fmt: skip
"""What may stand between two names: one sign at most, and none such as `<`, which turns the order,
or `~`, which leaves it open."""
_LEFT_OPEN = 0.02
"""The largest share of the listed probability that may leave open which choice it is for."""
_LONGEST_REPLY = 10_000
"""Longest reply that is read, in characters."""


def choices_of(
    reply: completions.Reply, choices: Sequence[str], judged: Sequence[str] = ()
) -> dict[str, float]:
    """The probability of each choice as the reply; 1 for the one that it names, if the server tells
    none, or if other words come first. Empty if it names none, or was cut where another one may
    have been meant.

    Args:
        judged: as `choice_of`.
    """
    choice = choice_of(reply.text, choices, judged)
    if choice is None:
        return {}
    plain = _name(reply.text).startswith(choice.upper()) and "[[" not in reply.text
    shares = _shares(reply, choices) if plain else {}
    if choice in shares:
        return shares
    return {} if _is_cut(reply, reply.text, choice, choices) else {choice: 1.0}


def _is_cut(reply: completions.Reply, said: str, choice: str, choices: Sequence[str]) -> bool:
    """Whether a reply was cut right behind a choice that another one begins with, as 1 of 10."""
    begins = any(c != choice and c.startswith(choice) for c in choices)
    return reply.finish == "length" and begins and _name(said).endswith(choice.upper())


def choice_of(text: str, choices: Sequence[str], judged: Sequence[str] = ()) -> str | None:
    """The choice of a reply that is one of them alone, a rating perhaps with the highest one behind
    it as in 8/10, or that marks exactly one as [[A]]; else None. Thinking is no part of it.

    Args:
        judged: what the judge has read. A mark that stands there too may be a quotation: it counts
            where it is the whole reply.
    """
    text = without_thinking(text)
    if len(text) > _LONGEST_REPLY:
        return None
    known = {choice.upper(): choice for choice in choices}
    bare, marked = _BARE.fullmatch(text), _marked(text, known)
    if marked:
        quoted = bare is None and any(marked & _marked(read, known) for read in judged)
        return marked.pop() if len(marked) == 1 and not quoted else None
    choice = known.get(bare[1].upper()) if bare else None
    if bare is None or choice is None or not choice.isdecimal():
        return None if bare is None or bare[2] else choice
    signed = text[: bare.start(1)].endswith(_SIGNS_BEFORE)
    changed = signed or text[bare.end(1) :].startswith(_SIGNS_AFTER)
    return None if changed or bare[2] not in (None, choices[-1]) else choice


def _marked(text: str, known: Mapping[str, str]) -> set[str]:
    """The choices that a text marks."""
    words = (word.upper() for word in _MARKED.findall(text))
    return {known[word] for word in words if word in known}


def order_of(
    text: str, choices: Sequence[str], judged: Sequence[str] = ()
) -> dict[str, float] | None:
    """The ranks that a reply gives, if it is one order of all choices, or marks exactly one such
    order as [[B > A > C]]; else None. An order is the choices, each once, with `>`, `=` (of one
    rank), commas, line feeds or the numbers of a list between them: `B > A = C`, `[B] > [A] > [C]`,
    `1. B 2. A 3. C`. Thinking is no part of it.

    Args:
        judged: as `choice_of`.
    """
    text = without_thinking(text)
    if len(text) > _LONGEST_REPLY:
        return None
    bare, orders = _order(text, choices), _marked_orders(text, choices)
    if not orders:
        return bare
    quoted = bare is None and any(orders[0] in _marked_orders(read, choices) for read in judged)
    return orders[0] if not quoted and all(order == orders[0] for order in orders) else None


def _marked_orders(text: str, choices: Sequence[str]) -> list[dict[str, float]]:
    """The orders that a text marks."""
    marked = (_order(inner, choices) for inner in _MARKED_ORDER.findall(text))
    return [order for order in marked if order is not None]


def _order(text: str, choices: Sequence[str]) -> dict[str, float] | None:
    numbers = [int(number) for number in _NUMBERED.findall(text)]
    if numbers and numbers != list(range(1, len(choices) + 1)):
        return None
    known = {choice.upper(): choice for choice in choices}
    places, last = dict[str, float](), 0
    parts = _NAME.split(_TITLE.sub(" ", _NUMBERED.sub(" ", text)).upper())
    for between, name in zip(parts[::2], parts[1::2], strict=False):
        if name not in known or known[name] in places or not _BETWEEN.fullmatch(between):
            return None
        last += not (places and "=" in between)
        places[known[name]] = last
    return ranks_of(places) if len(places) == len(choices) else None


def _shares(reply: completions.Reply, choices: Sequence[str]) -> dict[str, float]:
    """The probability of each choice as the reply, among the choices that are listed.

    Where one choice begins another, as 1 and 10, a first token 1 may leave both open. If that token
    was written, the next one tells them apart, or the end of the reply. If another one was written,
    nothing does, unless 10 is a token too. Empty if too much is left open, or nothing is told.
    """
    masses, left_open = dict.fromkeys(choices, 0.0), 0.0
    begun, weight, rest = "", 1.0, reply.text
    for likely in reply.logprobs:
        written = _written(likely, rest)
        ends = {begun + _name(token) for token in likely}
        followed = None
        for token, log_prob in likely.items():
            mass, name = weight * math.exp(min(0.0, log_prob)), _name(token)
            whole = begun + name
            longer = {c for c in choices if name and c != whole and c.startswith(whole)}
            if token == written and (longer - ends == longer != set() or not whole):
                followed = mass
            elif name and whole in masses and (not longer or longer & ends):
                masses[whole] += mass
            elif longer:
                left_open += mass
            elif begun in masses:
                masses[begun] += mass  # it was complete
        if written is None or followed is None:
            break
        begun, weight = begun + _name(written), followed
        rest = rest.lstrip()[len(_name(written)) :]
    else:
        if begun in masses and _is_cut(reply, begun, begun, choices):
            left_open += weight
        elif begun in masses:
            masses[begun] += weight
    told = sum(masses.values())
    if not told or left_open > _LEFT_OPEN * (told + left_open):
        return {}
    return {name: mass / told for name, mass in masses.items() if mass}


def _written(likely: Mapping[str, float], rest: str) -> str | None:
    """The likeliest token that the rest of a reply begins with; None if none of them is."""
    begins = rest.lstrip().upper().startswith
    fits = [t for t in likely if (begins(_name(t)) if _name(t) else rest[:1].isspace())]
    return max(fits, key=likely.__getitem__) if fits else None


def _name(token: str) -> str:
    return token.replace("\u2581", " ").strip().upper()
