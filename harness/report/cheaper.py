"""Compares the costs of two variants; times differ only if they differ by more than their noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from harness.comparison.costs import LONE_TIME, SAME, SAME_TIME, comparable
from harness.comparison.result import Comparison, Conditions, VariantResult
from harness.report.tables.columns import COSTS, Cost

RESPECTS = (
    "trainable_parameters", "state_bytes", "peak_device_bytes", "tokens", "train_seconds",
)  # fmt: skip
TIMES = ("train_seconds", "seconds_before", "last_seconds", "joules", "mfu")
"""The costs that depend on the machine, its threads and its other work."""
_SPEED = "tokens_per_second"
Marked = frozenset[tuple[str, str]]
"""(variant, cost) pairs whose time cannot be compared with the other variants' times."""
UNLIKE = "\u2020"
UNLIKE_NOTE = (
    f"{UNLIKE} Measured beside other work, or on another device or with other threads than most:"
    " this time is not compared."
)


def column_of(key: str) -> Cost:
    """The cost column of a key."""
    return next(cost for cost in COSTS if cost.key == key)


def compare_costs(one: VariantResult, other: VariantResult) -> dict[str, int]:
    """Compare two variants in each respect that is known for both.

    Returns:
        Cost key -> -1 if `one` costs less, 1 if it costs more, 0 if no difference is shown.
    """
    compared = {}
    for key in RESPECTS:
        ours, theirs = column_of(key).amount(one), column_of(key).amount(other)
        if ours is None or theirs is None or one.elsewhere or other.elsewhere:
            continue
        clear = _clear(key, one, other) if one.trained and other.trained else ours != theirs
        compared[key] = 0 if not clear else -1 if ours < theirs else 1
    return compared


def _clear(key: str, one: VariantResult, other: VariantResult) -> bool:
    """Whether two costs differ by more than seeds and machines make them differ."""
    ours, theirs = (variant.cost.get(key) or 0.0 for variant in (one, other))
    ranges = [variant.spread.get(key, (a, a)) for variant, a in ((one, ours), (other, theirs))]
    if ranges[0][0] <= ranges[1][1] and ranges[1][0] <= ranges[0][1]:
        return False
    factor = SAME
    if key in TIMES:
        if not comparable(one.timed, other.timed):
            return False
        lone = min(len(one.seeds), len(other.seeds)) == 1
        factor = LONE_TIME if lone else SAME_TIME
    return max(ours, theirs) > factor * min(ours, theirs)


def is_cheaper(compared: Mapping[str, int]) -> bool:
    """Whether a variant is cheaper in at least one respect and dearer in none.

    Args:
        compared: as `against` returns it.
    """
    return -1 in compared.values() and 1 not in compared.values()


def in_words(cost: Cost, variant: VariantResult, marked: Marked) -> str:
    """A cost with its unit, and with a mark if it is a time that cannot be compared."""
    written = cost.text(variant)
    known = cost.amount(variant) is not None
    return f"{written} {UNLIKE}" if known and (variant.group, cost.key) in marked else written


def range_over_seeds(cost: Cost, variant: VariantResult) -> str:
    """The least and the greatest cost over the seeds; empty if both are written the same way."""
    ends = variant.spread.get(cost.key)
    if ends is None or cost.amount(variant) is None:
        return ""
    low, high = (cost.written(end) for end in ends)
    return "" if low == high else f"{low} to {high}"


def not_comparable(comparison: Comparison) -> Marked:
    """The times and speeds that were measured under other conditions than most."""
    good = [variant for variant in comparison.variants if variant.has_result]
    trained = {v.group: v.timed for v in good if v.trained and v.timed}
    answering = {v.group: v.answering for v in good if v.answering}
    return frozenset(
        (group, key)
        for by_group, keys in ((trained, TIMES), (answering, (_SPEED,)))
        for group in _apart(by_group)
        for key in keys
    )


def _apart(by_group: Mapping[str, tuple[Conditions, ...]]) -> list[str]:
    """The variants whose conditions are not those of most variants."""
    quiet = Counter(taken for taken in by_group.values() if comparable(taken, taken))
    most = quiet.most_common(1)[0][0] if quiet else ()
    return [group for group, taken in by_group.items() if not comparable(taken, most)]
