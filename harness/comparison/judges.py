"""The judges of a suite with what is known of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.comparison.credentials import Credentials, told
from harness.comparison.kept_credentials import known_attacks, known_credentials
from harness.comparison.result import PoweredRate, SuiteJudge
from harness.planning.judging import Judged, judges_in, judges_of
from harness.planning.planner import Plan
from harness.store.stage import Stage
from harness.store.store import Store


def suite_judges(planned: Plan, store: Store) -> tuple[SuiteJudge, ...]:
    """Each judge of a suite by each set of labels that it was held to, those by most labels first;
    once, if it was held to none."""
    return tuple(
        line for name, judged in judges_of(planned).items() for line in _known(name, judged, store)
    )


def _known(name: str, judged: Judged, store: Store) -> Iterator[SuiteJudge]:
    attacks = known_attacks(store.root, judged.identity)
    attacked = attacks[0].overall.rate if attacks else None
    known = [c for c in known_credentials(store.root, judged.identity) if c.whole is not None]
    if not known:
        yield SuiteJudge(name, attacked=attacked)
    for credentials in known:
        yield replace(_line(name, credentials), attacked=attacked)


def _line(name: str, made: Credentials) -> SuiteJudge:
    whole = made.whole
    assert whole is not None, "only credentials with a verdict are shown"
    return SuiteJudge(
        name, made.source, whole.pairs, whole.agreement, whole.by_chance, whole.kappa, whole.alpha,
        made.position, made.flips, made.verbosity, None, made.beats_chance, tuple(made.rates),
    )  # fmt: skip


@dataclass(frozen=True)
class Trust:
    """How far the figures of a judge can be trusted, by its credentials by most labels.

    Attributes:
        credentials: how well it agrees with people, in words; empty if nobody knows.
        shown: it is shown to do so more than chance does.
        rate: the win rate of the stage with the judge's error in it; None if it is not known.
    """

    credentials: str = ""
    shown: bool = False
    rate: PoweredRate | None = None


UNKNOWN = Trust()
"""Of a judge that was held to no labels, and of scores that no judge gave."""


def trust_in(stage: Stage, root: Path) -> Trust:
    """How far the judge that a score stage asks can be trusted."""
    for judged in judges_in(stage):
        for made in known_credentials(root, judged.identity):
            if made.whole is not None:
                rate = next((rate for rate in made.rates if rate.stage == stage.key), None)
                return Trust(told(made), made.beats_chance, rate)
    return Trust()
