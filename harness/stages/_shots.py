"""Examples before a prompt: which ones, and as many as the model's context holds."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from typing import Any

from jinja2.exceptions import TemplateError

from harness.data.render import prompt_ids
from harness.data.turns import family_of


def shots_of(row: dict[str, Any], pool: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Examples for a row: of its own group, the same for every row of it, in a fixed order."""
    if not count:
        return []
    group = row["group"]
    if all(shot["group"] != group for shot in pool):
        group = family_of(group)  # training rows are whole conversations, without a turn's number
    same = [shot for shot in pool if shot["group"] == group]
    # Seeded by the group alone, so that all rows of a group share one prefix.
    return random.Random(f"shots {group}").sample(same, min(count, len(same)))


def prompt_with(
    tokenizer: Any,
    row: dict[str, Any],
    shots: list[dict[str, Any]],
    options: Mapping[str, Any],
    limit: int | None,
) -> tuple[list[int], int]:
    """A row's prompt after as many of its shots as the context holds and the chat template takes
    before it, and their number; some take a system turn at the beginning alone."""
    for first in range(len(shots)):
        with contextlib.suppress(TemplateError):
            ids = prompt_ids(tokenizer, row, shots[first:], options)
            if limit is None or len(ids) <= limit:
                return ids, len(shots) - first
    return prompt_ids(tokenizer, row, [], options), 0
