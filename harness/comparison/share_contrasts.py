"""Contrasts of shares of right answers: of two variants on the same rows, or of one and a
number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import special

from harness.comparison import binomial
from harness.comparison.contrasts import LEAST_P, NEAR, Contrast, Ends
from harness.comparison.intervals import POWER
from harness.comparison.power import mcnemar_detectable, mcnemar_needed

_HAIR = 1e-12
"""The farthest that an end of an interval comes to a value which the interval does not hold."""
_SURE = 1e9
"""So many standard errors stand for any number of them where the error is 0."""


@dataclass(frozen=True)
class PairedShares(Contrast):
    """The difference of two shares on the same rows.

    No difference is tested exactly (McNemar, 1947); any other value by the score test of Tango
    (1998, Statistics in Medicine 17:891), whose interval the values make that it does not reject.
    Where the two disagree about zero the exact test decides: the interval is made just so long, or
    so short, that it holds zero exactly if the exact test does not reject it. Fagerland, Lydersen &
    Laake (2014, Statistics in Medicine 33:2850) recommend Tango's interval of all that they
    compare; docs/coverage.md shows its coverage beside that of Newcombe's exact one.

    Attributes:
        up: how many rows are right, and wrong in the baseline. down: the other way round.
    """

    up: int
    down: int
    rows: int
    reason: str = ""

    @property
    def value(self) -> float:  # type: ignore[override]
        """The difference of the shares."""
        return (self.up - self.down) / self.rows

    def interval(self, alpha: float) -> Ends | None:
        far = float(special.ndtri(1 - alpha / 2))
        low = self._end(lambda null: self._score(null) - far, -1.0, self.value)
        high = self._end(lambda null: self._score(null) + far, self.value, 1.0)
        if self._exact() >= alpha:
            return min(low, 0.0), max(high, 0.0)
        return (max(low, _HAIR), high) if self.value > 0 else (low, min(high, -_HAIR))

    def p(self, null: float) -> float | None:
        if null == 0:
            return self._exact()
        if not -1 < null < 1:
            return 1.0 if null == self.value else LEAST_P
        p = max(LEAST_P, 2 * float(special.ndtr(-abs(self._score(null)))))
        # Nothing between 0 and the difference is rejected sooner than 0 is, nor is anything beyond
        # 0 rejected later.
        if self.value * null < 0:
            return min(p, self._exact())
        return max(p, self._exact()) if abs(null) < abs(self.value) else p

    def detectable(self, alpha: float, null: float = 0.0) -> float | None:
        changed = self._changed
        if null == 0:
            return mcnemar_detectable(self.rows, changed, alpha)
        error = math.sqrt((changed - min(null**2, changed / 2)) / self.rows)
        return float(special.ndtri(1 - alpha / 2) + special.ndtri(POWER)) * error

    def needed(self, null: float, alpha: float, n: int) -> tuple[int | None, str]:
        gap, seen = abs(self.value), self.detectable(alpha)
        if null or gap < NEAR * (seen or 1.0):
            return super().needed(null, alpha, n)
        total = mcnemar_needed((self.up + self.down) / self.rows, gap, alpha)
        return (total - n if total > n else None), ""

    def error(self) -> float | None:
        changed = self._changed
        return math.sqrt((changed - min(self.value**2, changed / 2)) / self.rows)

    @property
    def _changed(self) -> float:
        """The share of rows that changed. One row more keeps standard errors from being 0."""
        return (self.up + self.down + 1) / (self.rows + 2)

    def _exact(self) -> float:
        changed = self.up + self.down
        return min(1.0, 2 * float(special.bdtr(min(self.up, self.down), changed, 0.5)))

    def _score(self, null: float) -> float:
        """How many standard errors the difference lies above `null`, the errors being those of the
        likeliest shares with that difference."""
        n, up, down = self.rows, self.up, self.down
        linear = (2 * n - up + down) * null - up - down
        root = math.sqrt(max(linear**2 + 8 * n * down * null * (1 - null), 0.0))
        lost = (root - linear) / (4 * n)
        variance = n * (2 * lost + null * (1 - null))
        gap = up - down - n * null
        if variance <= 1e-12:
            return 0.0 if abs(gap) < 1e-9 else math.copysign(_SURE, gap)
        return gap / math.sqrt(variance)

    @staticmethod
    def _end(beyond: Callable[[float], float], low: float, high: float) -> float:
        """Where the test at the level begins to reject, between a value that it rejects and the
        estimate; the bound itself if even that is not rejected."""
        from scipy.optimize import brentq

        low, high = max(low, -1 + _HAIR), min(high, 1 - _HAIR)
        ends = beyond(low), beyond(high)
        if ends[0] * ends[1] > 0:
            return low if abs(low) > abs(high) else high
        return float(brentq(beyond, low, high, xtol=1e-10))


@dataclass(frozen=True)
class OneShare(Contrast):
    """A share less a constant, by the mid-P exact interval.

    Attributes:
        correct, rows: how many rows are right, of how many; effective numbers need not be whole.
    """

    correct: float
    rows: float
    constant: float
    reason: str = ""

    @property
    def value(self) -> float:  # type: ignore[override]
        """The difference."""
        return self.correct / self.rows - self.constant

    def interval(self, alpha: float) -> Ends | None:
        estimate = binomial.share(self.correct, self.rows, alpha)
        assert estimate.low is not None
        assert estimate.high is not None
        return estimate.low - self.constant, estimate.high - self.constant

    def p(self, null: float) -> float | None:
        known = self.constant + null
        if not 0 <= known <= 1:
            return LEAST_P
        return max(LEAST_P, binomial.share_p(self.correct, self.rows, known))

    def detectable(self, alpha: float, null: float = 0.0) -> float | None:
        # A constant of 0 or 1 leaves half a row of doubt.
        known = (min(max(self.constant + null, 0.0), 1.0) * self.rows + 0.5) / (self.rows + 1)
        error = math.sqrt(known * (1 - known) / self.rows)
        return float(special.ndtri(1 - alpha / 2) + special.ndtri(POWER)) * error

    def error(self) -> float | None:
        share = (self.correct + 0.5) / (self.rows + 1)
        return math.sqrt(share * (1 - share) / self.rows)
