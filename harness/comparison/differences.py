"""The contrast of two variants on one metric, or of a variant and a constant."""

from __future__ import annotations

import math

from harness.comparison.contrasts import (
    Alike,
    Contrast,
    Moved,
    Ranged,
    Untold,
    Watched,
)
from harness.comparison.groups import Group, changed_rows, common_change, effective_rows, partner
from harness.comparison.intervals import Ends, Runs, infer, spread_of
from harness.comparison.share_contrasts import OneShare, PairedShares


def contrast_of(
    group: Group, base: Group | float, ratio: float = 1.0, looks: str = "once"
) -> Contrast:
    """A variant's metric less `ratio` times that of another, on the same examples, or a constant.

    Right or wrong answers of single runs are compared by the rows that changed; all else by how
    clusters of examples, and training seeds, move the difference.

    Args:
        looks: `repeated` for intervals that stay valid while examples are added.
    """
    if isinstance(base, float):
        return _from_constant(group, ratio * base, looks)
    if ratio == 1 and same_measurement(group, base):
        return Ranged(0.0, 0.0, 0.0, "the same measurement: same model, same rows")
    plain = group.plain and base.plain and ratio == 1 and looks == "once"
    if plain and (changed := changed_rows(group, base)) is not None:
        return PairedShares(*changed, group.first.sample.n)
    other, paired = partner(group, base)
    scaled = Runs(ratio * other.runs.points, ratio * other.runs.moves)
    if paired or not base.runs.several:
        runs, apart = group.runs - scaled, None
    else:
        runs, apart = group.runs, scaled
    # Ones and zeros of one side alone are no share: the metric is on another scale.
    bounds = group.first.bounds if base.binary is None else group.bounds
    contrast = _contrast(group, runs, apart, bounds_of(bounds, bounds, ratio), looks)
    if ratio == 1 and looks == "once" and isinstance(contrast, Alike):
        way, clusters = common_change(group, other, paired=paired), group.independent
        if way is not None:
            return PairedShares(clusters * (way == 1), clusters * (way == -1), clusters)
    return contrast


def bounds_of(one: Ends, base: Ends, ratio: float) -> Ends:
    """The least and the greatest value that a metric less `ratio` times another can have.

    Args:
        one, base: the least and the greatest value of either metric.
    """
    least, most = one
    if ratio == 0:
        return least, most
    taken = sorted((ratio * base[0], ratio * base[1]))
    return least - taken[1], most - taken[0]


def same_measurement(group: Group, base: Group) -> bool:
    """Whether both are the same measurement, which nothing can tell apart."""
    measured = {run.measured for run in (*group.scores.values(), *base.scores.values())}
    return len(measured) == 1 and "" not in measured


def _from_constant(group: Group, constant: float, looks: str) -> Contrast:
    if group.binary is not None and looks == "once":
        rows = effective_rows(group, infer(group.runs, group.independent))
        return OneShare(float(group.runs.points.mean()) * rows, rows, constant)
    least, most = group.bounds
    runs = Runs(group.runs.points - constant, group.runs.moves)
    return _contrast(group, runs, None, (least - constant, most - constant), looks)


def _contrast(group: Group, runs: Runs, base: Runs | None, bounds: Ends, looks: str) -> Contrast:
    value, spread, reason = spread_of(runs, group.independent, base)
    if spread is None:
        return Untold(value, reason)
    if spread.nothing(value):
        value = 0.0 if abs(value) < 1e-12 else value
        additive = group.first.sample.aggregate == "mean"
        return Alike(value, group.independent, bounds if additive else (-math.inf, math.inf))
    moved = Moved(value, spread, bounds)
    return moved if looks == "once" else Watched(moved, group.independent)
