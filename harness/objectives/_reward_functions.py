"""Rewards that need no model: functions of an answer and the row it answers."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.data.row import Row

_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


def exact_match(answer: str, row: Row) -> float:
    """1 where the answer, its spaces aside, is one of the row's references; else 0."""
    return float(_plain(answer) in {_plain(reference) for reference in row["references"]})


def last_number(answer: str, row: Row) -> float:
    """1 where the answer's last number is that of a reference (as in GSM8K's scoring); else 0."""
    wanted = {_last(reference) for reference in row["references"]} - {None}
    return float(_last(answer) in wanted)


def brevity(answer: str, row: Row) -> float:
    """1 for an empty answer, falling by the words it has: 1 / (1 + words)."""
    return 1 / (1 + len(answer.split()))


FUNCTIONS: dict[str, Callable[[str, Row], float]] = {
    "exact_match": exact_match,
    "last_number": last_number,
    "brevity": brevity,
}
"""By the name a suite gives them."""


def _plain(text: str) -> str:
    return " ".join(text.split())


def _last(text: str) -> str | None:
    numbers = _NUMBER.findall(text)
    return numbers[-1].replace(",", "") if numbers else None
