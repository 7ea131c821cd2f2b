"""Shared by the scorers that ask a judge: what is missing, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.core.errors import StageFailed
from harness.scorers.base import Metric


def judged_metric(column: str, *, bounds: tuple[float, float], even: float | None = None) -> Metric:
    """A metric that is the mean over the examples on which the judge said something."""
    return Metric(
        aggregate="known_mean", columns={"value": column, "known": f"{column}_known"},
        bounds=bounds, even=even, judged=True,
    )  # fmt: skip


def column_of(column: str, value: float | None) -> dict[str, float]:
    """The columns of one example; one that is missing counts nothing."""
    known = value is not None
    return {column: value if value is not None else 0.0, f"{column}_known": float(known)}


def shaped(prompt: Any, text: str) -> Any:
    """An answer in the form of its prompt: a string, or a list of one message."""
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]


def missing_note(what: str, reasons: Sequence[str], asked: int) -> list[str]:
    """A sentence on the answers on which the judge said nothing; none if there are none.

    Raises:
        StageFailed: it said nothing at all.
    """
    counted = Counter(reasons).most_common()
    listed = "; ".join(f"{count}: {reason}" for reason, count in counted)
    if asked and len(reasons) == asked:
        raise StageFailed("judge", f"the judge said nothing of any answer ({listed})")
    return [f"{what}: no verdict on {len(reasons)} of {asked} answers ({listed})"] if listed else []
