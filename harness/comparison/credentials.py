"""What is known of a judge on one set of labels, as it is kept and shown."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from harness.comparison.result import Estimate, PoweredRate
from harness.core.text import number_of

FORMAT = 2
"""Version of what is kept; raised when a number is computed otherwise."""


class Agreement(BaseModel):
    """How well verdicts and labels agree on some pairs.

    Attributes:
        slice: which pairs: all of them, a dimension, or a quarter by length.
        pairs: with a label and a verdict.
        agreement: the share of pairs on which the verdict is the label.
        by_chance: the agreement that a judge reaches who gives its verdicts as often as this one
            does, and at random.
        accuracy: the share of pairs with a better answer on which the verdict names it, half for a
            tie; None if all labels are ties.
        kappa, alpha: None where all labels and verdicts are alike.
    """

    model_config = ConfigDict(frozen=True)

    slice: str
    pairs: int
    agreement: Estimate
    by_chance: float
    accuracy: Estimate | None
    kappa: Estimate | None
    alpha: Estimate | None

    @property
    def beats_chance(self) -> bool:
        """Whether it is shown that the judge agrees with the labels more than chance does."""
        if self.kappa is None:
            return False
        if self.kappa.low is not None:
            return self.kappa.low > 0
        return self.agreement.low is not None and self.agreement.low > self.by_chance


class Credentials(BaseModel):
    """What is known of a judge on one set of labels.

    Attributes:
        judge: its name in the suite.
        source: where the labels come from.
        labelled: pairs with a label; `missing` of them have no verdict.
        labellers: how many people labelled.
        people: Krippendorff's alpha of the people; None if no pair has two labels.
        agreements: over all pairs first, then by dimension and by length.
        position, flips: None if the judge does not read both orders.
        by_mean: as `accuracy`, by the mean probability of both orders, which is what
            `judge_preference` is made of: a judge whose verdicts all change with the order may
            still lean to the better answer.
        verbosity: None if all answers are equally long.
        repeatability: None for one run.
        transitivity, chance: the share of triples that fit a ranking, and what chance reaches.
        further: how many more labels bring each number to +-`precision`.
        rates: the suite's win rates whose answers were labelled.
    """

    model_config = ConfigDict(frozen=True)

    judge: str
    source: str
    labelled: int
    missing: int
    labellers: int
    people: Estimate | None
    agreements: list[Agreement]
    position: Estimate | None
    flips: Estimate | None
    verbosity: Estimate | None
    runs: int
    repeatability: Estimate | None
    triples: int
    transitivity: Estimate | None
    chance: float | None
    precision: float
    further: dict[str, int | None]
    rates: list[PoweredRate] = []
    by_mean: Estimate | None = None
    format: int = FORMAT

    @property
    def whole(self) -> Agreement | None:
        """Over all pairs; None if no labelled pair has a verdict."""
        return self.agreements[0] if self.agreements else None

    @property
    def beats_chance(self) -> bool:
        """Whether it is shown that the judge agrees with the labels more than chance does."""
        return self.whole is not None and self.whole.beats_chance


def told(made: Credentials) -> str:
    """The credentials in a few words, for the head of a column."""
    whole = made.whole
    if whole is None:
        return "no verdict on any labelled pair"
    kappa = "none" if whole.kappa is None else f"{whole.kappa.value:.2f}"
    interval = ""
    if whole.kappa is not None and whole.kappa.low is not None and whole.kappa.high is not None:
        interval = f" [{whole.kappa.low:.2f}, {whole.kappa.high:.2f}]"
    doubt = "" if made.beats_chance else "not better than chance: "
    return f"{doubt}kappa {kappa}{interval} on {number_of(whole.pairs, 'label')}"
