"""Which variants the selectors of a claim mean, and which pairs of them it compares."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence

from harness.core.errors import SuiteError, shortened, unknown
from harness.suite.claims import Selector

Labels = Mapping[str, Mapping[str, str]]
"""Variant -> axis -> its value there."""
_NOT_AXES = ("seed",)


def select(selector: Selector, variants: Labels, where: str) -> list[str]:
    """The variants that a selector means, in their order.

    A text is a name; else a pattern of names such as `lora*`; else the value of some axis, such as
    a method's name. A mapping says what each axis must be.

    Raises:
        SuiteError: it means none.
    """
    if isinstance(selector, Mapping):
        return _by_axes(selector, variants, where)
    if selector in variants:
        return [selector]
    if any(mark in selector for mark in "*?["):
        names = fnmatch.filter(variants, selector)
    else:
        names = [name for name, labels in variants.items() if selector in _values(labels)]
    if not names:
        known = {*variants, *(v for labels in variants.values() for v in _values(labels))}
        raise SuiteError(unknown("variant", selector, known), where=where)
    return names


def _values(labels: Mapping[str, str]) -> list[str]:
    return [value for axis, value in labels.items() if axis not in _NOT_AXES]


def _by_axes(
    selector: Mapping[str, Sequence[str | int | float]], variants: Labels, where: str
) -> list[str]:
    axes = {axis for labels in variants.values() for axis in labels if axis not in _NOT_AXES}
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


def pairs(
    ones: Sequence[str], others: Sequence[str], variants: Labels, *, named: bool
) -> Iterator[tuple[str, str]]:
    """The pairs that are compared: those that differ on the fewest axes, such as in the method
    alone.

    Args:
        named: the others were named one by one, so that each variant is compared with each.
    """
    both = [(one, other) for one in ones for other in others if one != other]
    apart = [_distance(variants[one], variants[other]) for one, other in both]
    least = min(apart, default=0)
    for pair, distance in zip(both, apart, strict=True):
        if named or distance == least:
            yield pair


def _distance(one: Mapping[str, str], other: Mapping[str, str]) -> int:
    axes = {*one, *other} - {*_NOT_AXES}
    return sum(one.get(axis) != other.get(axis) for axis in axes)
