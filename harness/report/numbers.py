"""Formats numbers for people: with as many digits as the interval justifies, and with units."""

from __future__ import annotations

import math

from harness.comparison.result import Estimate

MISSING = "\u2013"
MINUS = "\u2212"
"""The minus sign in print; terminals get a hyphen."""
_MOST_DECIMALS = 8


def decimals(estimate: Estimate) -> int:
    """How many decimals show two digits of the interval's half-width: 3 for 0.018.

    Without an interval, as many as show four significant digits of the number.
    """
    low, high = estimate.low, estimate.high
    if low is None or high is None or not math.isfinite(high - low):
        return _places(estimate.value, 4)
    if high == low:
        return 3
    return _places((high - low) / 2, 2)


def _places(size: float, digits: int) -> int:
    if size == 0 or not math.isfinite(size):
        return 3
    # The exponent of the rounded number, so that 0.0996 is written as 0.10 and not as 0.100.
    exponent = int(f"{abs(size):.{digits - 1}e}".partition("e")[2])
    return min(max(digits - 1 - exponent, 0), _MOST_DECIMALS)


def number(value: float | None, places: int, *, signed: bool = False) -> str:
    """A number with fixed decimals; a dash for None, words for NaN, and ∞ for infinity."""
    if value is None:
        return MISSING
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:{'+' if signed else ''},.{places}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")  # no -0.000
    return text.replace("-", MINUS)


def value(estimate: Estimate, *, signed: bool = False) -> str:
    """The number without its interval."""
    return number(estimate.value, decimals(estimate), signed=signed)


def interval(estimate: Estimate, *, signed: bool = False) -> str:
    """The 95% interval; empty if there is none."""
    if estimate.low is None or estimate.high is None or math.isnan(estimate.low + estimate.high):
        return ""
    places = decimals(estimate)
    low, high = (number(end, places, signed=signed) for end in (estimate.low, estimate.high))
    return f"[{low}, {high}]"


def both(estimate: Estimate, *, signed: bool = False) -> str:
    """The number and its interval: `0.412 [0.394, 0.430]`."""
    doubt = interval(estimate, signed=signed) or "(no interval)"
    return f"{value(estimate, signed=signed)} {doubt}"


def seconds(duration: float | None) -> str:
    """A duration: `0.42 s`, `12.3 s`, `4 min 05 s`, `3 h 07 min`."""
    if duration is None or not math.isfinite(duration):
        return MISSING
    if duration < 9.995:
        return f"{duration:.2f} s"
    if duration < 59.95:
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, left = divmod(minutes, 60)
    return f"{hours:,} h {left:02d} min"


def size(count: float | None) -> str:
    """Bytes with a binary prefix: `12.4 MiB`."""
    if count is None or not math.isfinite(count):
        return MISSING
    if abs(count) < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        count /= 1024
        if abs(count) < 1023.5 or unit == "TiB":
            break
    return f"{count:,.{0 if abs(count) >= 99.95 else 1}f} {unit}"


def count(amount: float | None) -> str:
    """A whole number with separators."""
    return number(amount, 0)


def rate(amount: float | None, unit: str) -> str:
    """A rate with three digits and its unit."""
    if amount is None or not math.isfinite(amount):
        return MISSING
    return f"{number(amount, _places(amount, 3))} {unit}"


def energy(joules: float | None) -> str:
    """An energy with three digits: `84.0 J`, `12.3 kJ`, `4.56 MJ`."""
    if joules is None or not math.isfinite(joules):
        return MISSING
    for unit in ("J", "kJ", "MJ"):
        if joules < 999.5 or unit == "MJ":
            break
        joules /= 1000
    return f"{number(joules, _places(joules, 3))} {unit}"


def money(amount: float | None) -> str:
    """An amount of money, in whatever currency, with three digits and at least two decimals."""
    if amount is None or not math.isfinite(amount):
        return MISSING
    return number(amount, max(2, _places(amount, 3)))


def share(amount: float | None) -> str:
    """A share as a percentage."""
    return MISSING if amount is None or not math.isfinite(amount) else f"{amount:.1%}"


def probability(p: float | None) -> str:
    """A p value; below 0.001 only as a bound, as it is not known more exactly."""
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
