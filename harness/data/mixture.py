"""One training set from several, by weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.core.errors import DataError
from harness.data.preferences import OPTIONAL

Row = dict[str, Any]


def mix(
    parts: Mapping[str, Sequence[Row]],
    weights: Mapping[str, float],
    seed: int,
    stop: str,
    limit: int | None = None,
) -> tuple[list[Row], dict[str, Any]]:
    """Interleave the parts: each next row is drawn from part i with probability w_i / sum(w).

    Within a part the rows keep their order. The draws come from numpy's PCG64, seeded with `seed`,
    so the mixture is the same on every machine.

    Args:
        stop: `first_exhausted` ends with the first part that has no row left (no row stands
            twice); `all_exhausted` starts a finished part again until each has been used up once.
        limit: end after so many rows at the latest.

    Returns:
        The rows, their ids led by the part's name (`part/id`, and `part/id~2` the second time), and
        for each part its rows and its share of them.

    Raises:
        DataError: the parts are of different layouts.
    """
    _refuse_layouts(parts)
    names = list(parts)
    chances = np.array([weights[name] for name in names], dtype=float)
    draws = np.random.default_rng(seed)
    used: Counter[str] = Counter()
    mixed: list[Row] = []
    while limit is None or len(mixed) < limit:
        name = names[int(draws.choice(len(names), p=chances / chances.sum()))]
        if stop == "first_exhausted" and used[name] == len(parts[name]):
            break
        turn, index = divmod(used[name], len(parts[name]))
        mixed.append(_named(parts[name][index], name, turn))
        used[name] += 1
        if stop == "all_exhausted" and all(used[n] >= len(parts[n]) for n in names):
            break
    if not mixed:
        raise DataError("the mixture holds no row", fix="name parts with rows")
    shares = {
        name: {"rows": used[name], "share": used[name] / len(mixed), "of": len(parts[name])}
        for name in names
    }
    return mixed, shares


def _named(row: Row, part: str, turn: int) -> Row:
    again = f"~{turn + 1}" if turn else ""
    return {
        **row,
        "id": f"{part}/{row['id']}{again}",
        "cluster": f"{part}/{row['cluster']}",
        "group": row["group"] or part,
    }


def _refuse_layouts(parts: Mapping[str, Sequence[Row]]) -> None:
    forms = {
        name: ", ".join(
            f"{column} (chat)" if isinstance(rows[0][column], list) else column
            for column in sorted(rows[0])
            if column not in ("id", "cluster", "group", "references") and column not in OPTIONAL
        )
        for name, rows in parts.items()
    }
    if len(set(forms.values())) > 1:
        told = "; ".join(f"{name}: {form}" for name, form in forms.items())
        raise DataError(
            f"the parts are of different layouts ({told})",
            fix="bring them into one with `map:`, or `chat: true`",
        )
