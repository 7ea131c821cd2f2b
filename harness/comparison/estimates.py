"""A number with its interval, and where its doubt comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; both ends are None if there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None else f" [{self.low:.4g}, {self.high:.4g}]"
        return f"{self.value:.4g}{interval}"

    def meets(self, other: Estimate) -> bool | None:
        """Whether the two intervals overlap; None where either has none."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return None
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Noise:
    """Where the doubt of a difference comes from, as shares of its variance that sum to 1; None
    for what the data does not tell apart from the rest.

    Attributes:
        examples: which examples are in the test set.
        answers: which answers were drawn to them.
        seeds: which training runs there are.
    """

    examples: float
    answers: float | None = None
    seeds: float | None = None

    @property
    def known(self) -> dict[str, float]:
        """Name -> share, of the parts that are told apart."""
        return {name: share for name, share in vars(self).items() if share is not None}

    @property
    def largest(self) -> str:
        """What to spend on next."""
        return max(self.known, key=lambda name: self.known[name])
