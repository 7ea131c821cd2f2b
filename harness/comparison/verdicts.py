"""Turns p values into verdicts, after Holm's adjustment over all comparisons of a report."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from harness.comparison.intervals import CONFIDENCE
from harness.comparison.result import ALL, Row

_ALPHA = 1 - CONFIDENCE
ALL_ALIKE = "all alike"
"""The verdict where every variant has the same value on every example: there is no evidence."""
UNCALIBRATED = "uncalibrated"
"""The verdict on a difference that only a judge sees whose error is not known."""
UNTRUSTED = "not trusted"
"""The verdict on one by a judge that is not shown to agree with people more than chance does."""


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p values (Holm, 1979), in the order of `values`.

    The k-th smallest of m values is multiplied by m - k + 1, and is at least the adjusted value
    before it. statsmodels computes the same, but runs Python's garbage collector at every call.
    """
    result, least = [0.0] * len(values), 0.0
    order = sorted(range(len(values)), key=values.__getitem__)
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(values) - place) * values[index]))
        result[index] = least
    return result


def benjamini_hochberg(values: Sequence[float]) -> list[float]:
    """The step-up adjustment of p values for the rate of false discoveries (Benjamini & Hochberg,
    1995), in the order of `values`."""
    from scipy.stats import false_discovery_control

    return [float(value) for value in false_discovery_control(values)] if len(values) else []


def adjusted(rows: list[Row]) -> list[Row]:
    """The rows with `p_holm` and a verdict.

    Rows over all examples are one family of Holm's adjustment, rows over slices another. The
    figures of uncalibrated judges decide nothing, so that they are families of their own.
    """
    judged = list(rows)
    for part in itertools.product((True, False), repeat=2):
        family = {
            i: row.p
            for i, row in enumerate(rows)
            if (row.slice == ALL, row.uncalibrated) == part and row.p is not None
        }
        for i, p in zip(family, holm(list(family.values())), strict=True):
            judged[i] = _judged(replace(rows[i], p_holm=p), len(family))
    return [_finally(row) for row in judged]


def _finally(row: Row) -> Row:
    """The row with its verdict, if the adjusted p gave none or says nothing."""
    if row.difference is None or not (row.constant or row.p is None):
        return row
    return replace(row, verdict=ALL_ALIKE if row.constant else "no difference shown")


def _judged(row: Row, family: int) -> Row:
    """The row with the verdict that its adjusted p gives; a note says where the p alone, and so the
    interval, would have given another one."""
    if row.difference is None:
        return row
    assert row.p is not None
    assert row.p_holm is not None
    if row.p_holm < _ALPHA and row.uncalibrated:
        return replace(row, verdict=UNTRUSTED if row.credentials else UNCALIBRATED)
    if row.p_holm < _ALPHA:
        up = row.difference.value > 0
        return replace(row, verdict="better" if up == row.higher_is_better else "worse")
    row = replace(row, verdict="no difference shown")
    if not row.shown_alone:
        return row
    return row.noted(
        f"p {row.p:.2g} by itself, {row.p_holm:.2g} after Holm's adjustment over {family}"
        " comparisons"
    )
