"""Pareto fronts: what is beaten by nothing in two respects at once."""

from __future__ import annotations

import math
from collections.abc import Sequence


def front(
    xs: Sequence[float | None], ys: Sequence[float | None], *, x_up: bool, y_up: bool
) -> list[int]:
    """Indexes of the points that no other equals in both respects and beats in one, by x.

    Args:
        xs: one number a point; a point without a finite number in either respect takes no part.
        x_up: higher x is better. y_up: likewise.
    """
    points = [
        (-x if x_up else x, -y if y_up else y, i)
        for i, (x, y) in enumerate(zip(xs, ys, strict=True))
        if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)
    ]
    kept: list[tuple[float, float, int]] = []
    for point in sorted(points):
        # Sorted by x, then y: a point is beaten unless its y is lower than every earlier one.
        if not kept or point[1] < kept[-1][1] or point[:2] == kept[-1][:2]:
            kept.append(point)
    return sorted((i for *_, i in kept), key=lambda i: (xs[i], i))
