"""How many tokens a training reads: by its rows' measured lengths, or by their bytes until then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.objectives.base import Objective
from harness.stages._cost import BYTES_A_TOKEN


@dataclass(frozen=True)
class Sequences:
    """What enters the model, one after another: rows, or several of them packed into one.

    Attributes:
        count: how many there are in an epoch.
        tokens: of all of them, without padding.
        first: the expected length of the longest one in the first batch, to which it is padded.
        longest: the length of the longest one.
    """

    count: int
    tokens: float
    first: float
    longest: float

    @property
    def mean(self) -> float:
        """The mean number of tokens."""
        return self.tokens / max(1, self.count)


def sequences(
    objective: Objective, data: Mapping[str, Any], lengths: Sequence[int], room: int | None
) -> Sequences:
    """The sequences of a training.

    Args:
        data: metrics of its rows; `lengths`: their tokens, empty until they are measured.
        room: the most tokens of a row that the model can read; None: there is no limit.
    """
    limit = int(getattr(objective, "max_length", 1024))
    limit = limit if room is None else min(limit, room)
    if rows := _fitting(objective, lengths, limit):
        count, tokens, longest = len(rows), float(sum(rows)), float(max(rows))
    else:
        count, longest = int(data["rows"]), min(limit, data["longest_bytes"] / BYTES_A_TOKEN)
        tokens = count * min(limit, data["mean_bytes"] / BYTES_A_TOKEN)
    if _packs(objective):
        return Sequences(max(1, -(-int(tokens) // limit)), tokens, limit, limit)
    by_length = getattr(objective, "train_sampling_strategy", "") == "group_by_length"
    first = longest if by_length or not rows else _longest_of(rows, batch_size(objective))
    return Sequences(count, tokens, first, longest)


def batch_size(objective: Objective) -> int:
    """Sequences in one forward pass."""
    return int(getattr(objective, "per_device_train_batch_size", 1))


def accumulated(objective: Objective) -> int:
    """Forward passes before a step of the optimizer."""
    return int(getattr(objective, "gradient_accumulation_steps", 1))


def epochs(objective: Objective, count: int) -> float:
    """How often the steps read every sequence."""
    batches = -(-count // batch_size(objective))
    return objective.steps(count) / -(-batches // accumulated(objective))


def _fitting(objective: Objective, lengths: Sequence[int], limit: int) -> list[int]:
    """The lengths as the objective's `overlong` leaves them."""
    policy = getattr(objective, "overlong", "drop")
    if policy == "split":
        return [min(limit, n - cut) for n in lengths for cut in range(0, n, limit)]
    return [min(n, limit) for n in lengths if n <= limit or policy == "truncate"]


def _packs(objective: Objective) -> bool:
    """Whether rows share sequences. None: they do where documents cannot see each other."""
    return hasattr(objective, "packing") and objective.packing is not False


def _longest_of(lengths: Sequence[int], drawn: int) -> float:
    """The expected longest of so many different ones, drawn at random: the k-th shortest of n is it
    with probability C(k - 1, d - 1) / C(n, d)."""
    ordered = sorted(lengths, reverse=True)
    number, drawn = len(ordered), min(drawn, len(ordered))
    expected, rest = 0.0, 1.0
    for place, length in enumerate(ordered):
        here = drawn / (number - place)  # that it is among those drawn, if no longer one is
        expected += rest * here * length
        rest *= 1 - here
        if here >= 1:
            break
    return expected
