"""The power of a claim's test: how likely it shows a difference that is there.

For means and corpus metrics it is that of Student's t (noncentral t); for two one-sided tests the
normal approximation (Schuirmann, 1987); for right and wrong answers that of McNemar's exact test,
summed over the numbers of rows that may change (Miettinen, 1968, Biometrics 24:339).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special

from harness.comparison.intervals import POWER, student

EACH_OF_TWO = (1 + POWER) / 2
"""The power with which either of two limits must be passed so that both are in 80%: no more than
20% can then miss one (Schuirmann, 1987)."""
_EXACT = 20_000
"""The most rows for which the exact power of McNemar's test is computed."""


def t_power(gap: float, error: float, freedom: float, alpha: float) -> float:
    """How likely Student's t shows that a value lies beyond its limit, if it lies `gap` beyond it.

    Args:
        error: the standard error. freedom: its degrees of freedom.
    """
    if error <= 0:
        return 1.0 if gap > 0 else 0.0
    critical = student(alpha / 2, freedom)
    if freedom > 1e4:
        return float(special.ndtr(gap / error - critical))
    return 1 - float(special.nctdtr(freedom, gap / error, critical))


def equal_power(margin: float, difference: float, error: float, alpha: float) -> float:
    """How likely both one-sided tests show that a true difference lies within the margin."""
    z = float(special.ndtri(1 - alpha / 2))
    sides = ((margin + sign * difference) / error - z for sign in (1, -1))
    return max(0.0, sum(float(special.ndtr(side)) for side in sides) - 1)


def mcnemar_power(rows: int, changed: float, gain: float, alpha: float) -> float:
    """How likely McNemar's exact test shows a gain.

    Args:
        changed: the share of rows that are right on one side alone.
        gain: the true difference of the two shares, at most `changed`.
    """
    spread = math.sqrt(rows * changed * (1 - changed)) + 1
    middle = rows * changed
    counts = np.arange(max(0, int(middle - 8 * spread)), min(rows, int(middle + 8 * spread)) + 1)
    logs = (
        special.gammaln(rows + 1) - special.gammaln(counts + 1)
        - special.gammaln(rows - counts + 1)
        + special.xlogy(counts, changed) + special.xlog1py(rows - counts, -changed)
    )  # fmt: skip
    # The most rows lost with which the test still shows a gain, for each number of changed rows.
    most = special.bdtrik(alpha / 2, counts, 0.5)
    lost = np.floor(np.where(np.isfinite(most), most, -1) + 1e-9)
    lost = np.where(special.bdtr(np.maximum(lost, 0), counts, 0.5) < alpha / 2, lost, lost - 1)
    share = (changed - gain) / (2 * changed)
    shown = np.where(lost >= 0, special.bdtr(np.maximum(lost, 0), counts, share), 0.0)
    return float(np.exp(logs) @ shown)


def mcnemar_detectable(rows: int, changed: float, alpha: float) -> float | None:
    """The smallest gain that McNemar's exact test shows with 80% power; None if it shows none.

    With more rows than 20,000 by the normal approximation.

    Args:
        changed: the share of rows that are right on one side alone. A gain beyond it makes that
            share as large as itself.
    """
    from scipy.optimize import brentq

    if rows > _EXACT:
        z = float(special.ndtri(1 - alpha / 2) + special.ndtri(POWER))
        return z * math.sqrt(changed / rows)

    def beyond(gain: float) -> float:
        return mcnemar_power(rows, max(changed, gain), gain, alpha) - POWER

    return float(brentq(beyond, 0.0, 1.0)) if beyond(1.0) > 0 else None


def detectable(error: float, freedom: float, alpha: float, *, both: bool = False) -> float:
    """The smallest gap that Student's t shows with 80% power.

    Args:
        both: the value must be shown to lie beyond two limits, equally far away.
    """
    from scipy.optimize import brentq

    power = EACH_OF_TWO if both else POWER
    most = (student(alpha / 2, freedom) + student(1 - power, freedom)) * error * 2
    return float(brentq(lambda gap: t_power(gap, error, freedom, alpha) - power, 0.0, most))


def examples_needed(
    variance: float, gap: float, fixed: float, alpha: float, *, both: bool
) -> int | None:
    """How many examples show a gap with 80% power; None if no number of them does.

    Args:
        variance: of the differences between examples.
        gap: how far the true value lies beyond its limit.
        fixed: the part of the squared standard error that more examples do not reduce.
        both: the value must be shown to lie beyond two limits, equally far away.
    """
    z = float(special.ndtri(1 - alpha / 2) + special.ndtri(EACH_OF_TWO if both else POWER))
    room = (gap / z) ** 2 - fixed
    if gap <= 0 or room <= 0:
        return None
    start = max(2, math.ceil(variance / room))
    if both or fixed:
        return start
    # Student's t needs a few more, as the spread is not known either.
    return _least(lambda n: t_power(gap, math.sqrt(variance / n), n - 1, alpha) >= POWER, start)


def mcnemar_needed(changed: float, gain: float, alpha: float) -> int:
    """How many rows McNemar's exact test needs to show a gain with 80% power.

    Args:
        changed: the share of rows that are right on one side alone; at least `gain`.
        gain: above 0.
    """
    gain = min(gain, 1.0)
    share = max(changed, gain)
    z = float(special.ndtri(1 - alpha / 2) + special.ndtri(POWER))
    start = max(2, math.ceil(z**2 * (share - gain**2) / gain**2))
    return _least(lambda n: mcnemar_power(n, share, gain, alpha) >= POWER, start)


def _least(enough: Callable[[int], bool], start: int) -> int:
    """The least number above half of `start`, which is 2 or more, that is enough."""
    low, high = start // 2, start
    while not enough(high):
        low, high = high, math.ceil(high * 1.5)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
