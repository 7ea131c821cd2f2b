"""What a comparison says of a suite's judges, and what these say of its variants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.comparison.estimates import Estimate


@dataclass(frozen=True)
class PoweredRate:
    """A win rate of a suite with the judge's error in its interval.

    Attributes:
        labelled: examples with a label; `examples` have a verdict.
        judged: by the judge alone, whose interval would not know of its error.
        labels: by the labelled examples alone.
        both: by prediction-powered inference.
        weight: of the judge in it, from 0 to 1.
        stage: the key of the score stage whose win rate it is.
    """

    variant: str
    other: str
    evaluation: str
    labelled: int
    examples: int
    judged: float
    labels: Estimate
    both: Estimate
    weight: float
    stage: str = ""

    @property
    def open(self) -> bool:
        """Whether the win rate may be one half, for all that the labels tell."""
        low, high = self.both.low, self.both.high
        return low is None or high is None or low <= 0.5 <= high


@dataclass(frozen=True)
class SuiteJudge:
    """A judge of the suite, with what is known of it by one set of labels.

    Attributes:
        source: where the labels come from; empty if it was held to none.
        pairs: with a label and a verdict.
        by_chance: the agreement that guessing reaches; None without labels.
        attacked: how often attacks win over it; None if none were tried.
        trusted: it is shown to agree with the labels more than chance does.
        rates: the suite's win rates with the judge's error in them.
    """

    name: str
    source: str = ""
    pairs: int = 0
    agreement: Estimate | None = None
    by_chance: float | None = None
    kappa: Estimate | None = None
    alpha: Estimate | None = None
    position: Estimate | None = None
    flips: Estimate | None = None
    verbosity: Estimate | None = None
    attacked: Estimate | None = None
    trusted: bool = False
    rates: tuple[PoweredRate, ...] = ()


@dataclass(frozen=True)
class JudgedRate:
    """How often a judge prefers a variant's answers, and what its rank is among others.

    Attributes:
        examples: those with a verdict; `missing` more have none.
        controlled: the win rate if all answers were equally long (harness.comparison.win_rates).
        strength: of Bradley and Terry; None where fewer than three variants are compared.
        rank: a range where the intervals of strengths overlap; empty without a strength.
    """

    judge: str
    variant: str
    other: str
    evaluation: str
    examples: int
    missing: int
    wins: int
    ties: int
    losses: int
    rate: Estimate
    controlled: Estimate
    strength: Estimate | None = None
    rank: str = ""


@dataclass(frozen=True)
class JudgedRank:
    """A variant's place among all variants that a judge compared with one another.

    Attributes:
        strength: of Bradley and Terry, with ties as half a win each.
        rank: a range where the intervals of strengths overlap.
        won: other variant -> how often this one's answers are preferred, half for a tie, and over
            how many examples; those that it was compared with.
    """

    judge: str
    variant: str
    evaluation: str
    strength: Estimate
    rank: str
    won: Mapping[str, tuple[float, int]]
