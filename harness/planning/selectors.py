"""Which variants the selectors of a claim mean, and which pairs of them it compares."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.core.errors import SuiteError, shortened, unknown
from harness.suite.claims import EVERY, Selector
from harness.variants.called import NOT_AXES, Labels, axis_values, called


def select(selector: Selector, variants: Labels, where: str) -> list[str]:
    """The variants that a selector means, in their order.

    A text means what `called` says. A mapping says what each axis must be.

    Raises:
        SuiteError: it means none.
    """
    if isinstance(selector, Mapping):
        return _by_axes(selector, variants, where)
    names = called(selector, variants)
    if not names:
        known = {*variants, *(v for labels in variants.values() for v in axis_values(labels))}
        raise SuiteError(unknown("variant", selector, known), where=where)
    return names


def _by_axes(
    selector: Mapping[str, Sequence[str | int | float]], variants: Labels, where: str
) -> list[str]:
    axes = {axis for labels in variants.values() for axis in labels if axis not in NOT_AXES}
    names = list(variants)
    for axis, patterns in selector.items():
        if axis not in axes:
            raise SuiteError(unknown("axis", axis, axes), where=where)
        wanted = [str(pattern) for pattern in patterns]
        for pattern in wanted:
            values = {labels[axis] for labels in variants.values() if axis in labels}
            if not fnmatch.filter(values, pattern):
                raise SuiteError(unknown(axis, pattern, values), where=f"{where}.{axis}")
        names = [
            name
            for name in names
            if any(fnmatch.fnmatchcase(variants[name].get(axis, ""), p) for p in wanted)
        ]
    if not names:
        listed = shortened(
            ", ".join(f"{a} {' or '.join(map(str, p))}" for a, p in selector.items())
        )
        raise SuiteError(f"no variant has {listed}", where=where)
    return names


@dataclass(frozen=True)
class Pairing:
    """The pairs that a claim compares.

    Attributes:
        pairs: (variant, the other).
        left_out: the variants of either side that are in no pair.
    """

    pairs: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]


def pairs(
    ones: Sequence[str], others: Sequence[str], variants: Labels, variant: object, than: object
) -> Pairing:
    """The pairs of variants that a claim compares, none with itself.

    - Another that is named: each variant is compared with it.
    - *Every variant* on a side: each variant of that side that the other side does not mean is
      compared with those nearest to it, which are those that differ from it on the fewest axes.
    - Else those pairs that differ on the fewest axes, such as in the method alone.

    Args:
        variant, than: the selectors that mean `ones` and `others`.
    """
    if than in others:
        chosen = _all(ones, others)
    elif EVERY in (variant, than):
        chosen = []
        if variant == EVERY:
            for one in _beside(ones, others):
                chosen += _nearest(_all([one], others), variants)
        if than == EVERY:
            for other in _beside(others, ones):
                chosen += _nearest(_all(ones, [other]), variants)
    else:
        chosen = _nearest(_all(ones, others), variants)
    both = tuple(dict.fromkeys(chosen))
    paired = {name for pair in both for name in pair}
    meant = dict.fromkeys([*ones, *others])
    return Pairing(both, tuple(name for name in meant if name not in paired))


def _all(ones: Sequence[str], others: Sequence[str]) -> list[tuple[str, str]]:
    return [(one, other) for one in ones for other in others if one != other]


def _beside(these: Sequence[str], those: Sequence[str]) -> Sequence[str]:
    """These without those; all of them if none would be left."""
    return [name for name in these if name not in those] or these


def _nearest(pairs: Sequence[tuple[str, str]], variants: Labels) -> list[tuple[str, str]]:
    """The pairs that differ on the fewest axes."""
    apart = [_distance(variants[one], variants[other]) for one, other in pairs]
    least = min(apart, default=0)
    return [pair for pair, distance in zip(pairs, apart, strict=True) if distance == least]


def _distance(one: Mapping[str, str], other: Mapping[str, str]) -> int:
    axes = {*one, *other} - {*NOT_AXES}
    return sum(one.get(axis) != other.get(axis) for axis in axes)
