"""Mixes several training sets into one, by weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.core.errors import DataError
from harness.data.preferences import OPTIONAL
from harness.data.row import RowDict


def mix(
    parts: Mapping[str, Sequence[RowDict]],
    weights: Mapping[str, float],
    seed: int,
    stop: str,
    limit: int | None = None,
    where: str = "",
) -> tuple[list[RowDict], dict[str, Any]]:
    """Interleave the parts: each next row is drawn from part i with probability w_i / sum(w).

    Within a part the rows keep their order. The draws come from numpy's PCG64, seeded with `seed`,
    so the mixture is the same on every machine.

    Args:
        parts: name -> rows.
        weights: name -> weight, greater than 0.
        stop: `first_exhausted` ends when a part has no row left, so that no row is repeated;
            `all_exhausted` starts a used-up part again, until each part was used up once.
        limit: the most rows of the mixture.
        where: the mixture's place in its suite, for messages.

    Returns:
        The rows, with the part's name in their ids (`part/id`, and `part/id~2` the second time);
        and for each part the number of its rows in the mixture, their share, and its own size.

    Raises:
        DataError: the parts have different layouts, or the mixture has no row.
    """
    _refuse_layouts(parts, where)
    names = list(parts)
    chances = np.array([weights[name] for name in names], dtype=float)
    draws = np.random.default_rng(seed)
    used: Counter[str] = Counter()
    mixed: list[RowDict] = []
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
        raise DataError("the mixture holds no row", where=where, fix="name parts with rows")
    shares = {
        name: {"rows": used[name], "share": used[name] / len(mixed), "of": len(parts[name])}
        for name in names
    }
    return mixed, shares


def _named(row: RowDict, part: str, turn: int) -> RowDict:
    again = f"~{turn + 1}" if turn else ""
    return {
        **row,
        "id": f"{part}/{row['id']}{again}",
        "cluster": f"{part}/{row['cluster']}",
        "group": row["group"] or part,
    }


def _refuse_layouts(parts: Mapping[str, Sequence[RowDict]], where: str) -> None:
    forms = {
        name: ", ".join(
            f"{column} (chat)" if isinstance(rows[0][column], list) else column
            for column in sorted(rows[0])
            if column not in ("id", "cluster", "group", "references") and column not in OPTIONAL
        )
        for name, rows in parts.items()
    }
    if len(set(forms.values())) > 1:
        listed = "; ".join(f"{name}: {form}" for name, form in forms.items())
        raise DataError(
            f"the parts are of different layouts ({listed})",
            where=where,
            fix="bring them into one with `map:`, or `chat: true`",
        )
