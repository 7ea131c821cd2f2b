"""Pareto fronts: the points that no other point beats in two respects at once."""

from __future__ import annotations

import math
from collections.abc import Sequence


def front(
    xs: Sequence[float | None], ys: Sequence[float | None], *, x_up: bool, y_up: bool
) -> list[int]:
    """Indexes of the points on the front, sorted by x.

    A point is on the front if no other point is at least as good in both respects and better in
    one.

    Args:
        xs: the x of each point; a point without a finite x and y is left out.
        ys: the y of each point.
        x_up: a higher x is better.
        y_up: a higher y is better.
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
