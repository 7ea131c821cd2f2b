"""Contrasts of shares of right answers: of two variants on the same rows, or of one and a
number."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from harness.comparison import binomial
from harness.comparison.contrasts import LEAST_P, NEAR, Contrast
from harness.comparison.intervals import POWER, Ends
from harness.comparison.power import mcnemar_detectable, mcnemar_needed

_HAIR = 1e-12
"""The farthest that an end of an interval comes to a value which the interval does not hold."""
_LEAST_VARIANCE = 1e-12
"""Of a number of rows; it stands for none, so that what differs is any number of errors away."""


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
        low, high = self._end(alpha, -1), self._end(alpha, 1)
        if self._exact() >= alpha:
            return min(low, 0.0), max(high, 0.0)
        return (max(low, _HAIR), high) if self.value > 0 else (low, min(high, -_HAIR))

    def p(self, null: float) -> float | None:
        if null == 0:
            return self._exact()
        p = max(LEAST_P, 2 * float(special.ndtr(-abs(self._score(null)))))
        # Nothing between 0 and the difference is rejected sooner than 0 is, nor is anything beyond
        # 0 rejected later.
        if self.value * null < 0:
            return min(p, self._exact())
        return max(p, self._exact()) if abs(null) < abs(self.value) else p

    def detectable(self, alpha: float, null: float = 0.0, power: float = POWER) -> float | None:
        if null == 0 and power == POWER:
            return mcnemar_detectable(self.rows, self._changed, alpha)
        # So large a difference changes as many rows at least.
        limit = min(abs(null), 1.0)
        error = math.sqrt((max(self._changed, limit) - limit**2) / self.rows)
        return float(special.ndtri(1 - alpha / 2) + special.ndtri(power)) * error

    def needed(self, null: float, alpha: float, n: int) -> tuple[int | None, str]:
        gap, seen = abs(self.value), self.detectable(alpha)
        if null or gap < NEAR * (seen or 1.0):
            return super().needed(null, alpha, n)
        total = mcnemar_needed((self.up + self.down) / self.rows, gap, alpha)
        return (total - n if total > n else None), ""

    def error(self) -> float | None:
        # Where all rows changed one way, half of their variance is left as doubt.
        moved = min(self.value**2, self._changed / 2)
        return math.sqrt((self._changed - moved) / self.rows)

    @property
    def _changed(self) -> float:
        """The share of rows that changed. One row more keeps standard errors from being 0."""
        return (self.up + self.down + 1) / (self.rows + 2)

    def _exact(self) -> float:
        changed = self.up + self.down
        tails = 2 * float(special.bdtr(min(self.up, self.down), changed, 0.5))
        return max(LEAST_P, min(1.0, tails))

    def _score(self, null: float) -> float:
        """How many standard errors the difference lies above `null`, the errors being those of the
        likeliest shares with that difference."""
        n, up, down = self.rows, self.up, self.down
        linear = (2 * n - up + down) * null - up - down
        root = math.sqrt(max(linear**2 + 8 * n * down * null * (1 - null), 0.0))
        lost = (root - linear) / (4 * n)
        variance = n * (2 * lost + null * (1 - null))
        return (up - down - n * null) / math.sqrt(max(variance, _LEAST_VARIANCE))

    def _end(self, alpha: float, side: int) -> float:
        """Where the score test begins to reject, from the difference on down (side -1) or up
        (side 1); the bound itself if all rows moved there, as it is not rejected then."""
        from scipy.optimize import brentq

        if self.value == side:
            return self.value
        far = float(special.ndtri(1 - alpha / 2))
        low, high = sorted((side * (1 - _HAIR), self.value))
        return float(brentq(lambda null: far + side * self._score(null), low, high, xtol=1e-10))


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

    def detectable(self, alpha: float, null: float = 0.0, power: float = POWER) -> float | None:
        # A constant of 0 or 1 leaves half a row of doubt.
        known = (min(max(self.constant + null, 0.0), 1.0) * self.rows + 0.5) / (self.rows + 1)
        error = math.sqrt(known * (1 - known) / self.rows)
        return float(special.ndtri(1 - alpha / 2) + special.ndtri(power)) * error

    def error(self) -> float | None:
        share = (self.correct + 0.5) / (self.rows + 1)
        return math.sqrt(share * (1 - share) / self.rows)
