"""Which variants a judge compares with one another, and in which of two places each of them stands.

It does not depend on who asks, nor on the order of the variants in the suite, so that every
comparison is one stage that all its variants share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from harness.planning.draft import NotAsked
from harness.planning.graph import VariantPath
from harness.store.stage import Stage


class Rival(NamedTuple):
    """A variant and the stage of its answers."""

    path: VariantPath
    answers: Stage


Answer = Callable[[VariantPath], Stage]
Baseline = Callable[[VariantPath], VariantPath]
"""path -> the path of the variant that the suite compares it with, else NotAsked."""


def everyone(
    path: VariantPath, rivals: Sequence[VariantPath], answers: Answer
) -> tuple[Rival, list[Rival]]:
    """The variant itself, and each other one whose answers are others, by the keys of their
    answers.

    Args:
        rivals: the other variants that answer the rows.

    Raises:
        NotAsked: there is no other.
    """
    mine = Rival(path, answers(path))
    others: dict[str, Rival] = {}
    for rival in rivals:
        theirs = Rival(rival, answers(rival))
        if theirs.answers.key != mine.answers.key:
            others.setdefault(theirs.answers.key, theirs)
    if not others:
        raise NotAsked("no other variant answers the same rows", noted=True)
    return mine, [others[key] for key in sorted(others)]


def seated(one: Rival, other: Rival, baseline: Baseline) -> tuple[Rival, Rival]:
    """Both in the places in which they are compared: a baseline stands second, as wherever it is
    one; of others the one whose answers have the lesser key stands first."""
    if _is_baseline(other, one, baseline):
        return one, other
    if _is_baseline(one, other, baseline) or other.answers.key < one.answers.key:
        return other, one
    return one, other


def _is_baseline(it: Rival, of: Rival, baseline: Baseline) -> bool:
    try:
        return baseline(of.path).variant.id == it.path.variant.id
    except NotAsked:
        return False
