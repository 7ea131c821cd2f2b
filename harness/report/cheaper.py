"""Which of two variants costs less, in which respects; a time only beyond its noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.comparison.result import Comparison, Conditions, VariantResult
from harness.report.tables.columns import COSTS, Cost

RESPECTS = (
    "trainable_parameters", "state_bytes", "peak_device_bytes", "tokens", "train_seconds",
)  # fmt: skip
_SAME = 1.02
"""Counts and bytes within two parts of a hundred are alike."""
_SAME_TIME = 1.25
"""So are times within a quarter: machines do not repeat them better."""
_LONE_TIME = 2.0
"""Of one run the noise is not known: only a time twice another one's is more."""
TIMES = ("train_seconds", "seconds_before", "last_seconds")
_SPEED = "tokens_per_second"
Marked = frozenset[tuple[str, str]]
"""(variant, cost) of which the figure cannot be compared with most others'."""
UNLIKE = "\u2020"
UNLIKE_NOTE = (
    f"{UNLIKE} Measured beside other work, or on another device or with other threads than most:"
    " this time is not compared."
)


def of(key: str) -> Cost:
    """The cost column of a key."""
    return next(cost for cost in COSTS if cost.key == key)


def against(one: VariantResult, other: VariantResult) -> dict[str, int]:
    """-1 where the first costs less, 1 where more, 0 where nothing is shown; without what is not
    known of both."""
    found = {}
    for key in RESPECTS:
        ours, theirs = of(key).amount(one), of(key).amount(other)
        if ours is None or theirs is None or one.elsewhere or other.elsewhere:
            continue
        clear = _clear(key, one, other) if one.trained and other.trained else ours != theirs
        found[key] = 0 if not clear else -1 if ours < theirs else 1
    return found


def _clear(key: str, one: VariantResult, other: VariantResult) -> bool:
    """Whether the costs differ beyond what seeds and machines make of them."""
    ours, theirs = (variant.cost.get(key) or 0.0 for variant in (one, other))
    ranges = [variant.spread.get(key, (a, a)) for variant, a in ((one, ours), (other, theirs))]
    if ranges[0][0] <= ranges[1][1] and ranges[1][0] <= ranges[0][1]:
        return False
    factor = _SAME
    if key in TIMES:
        if not alike(one.timed, other.timed):
            return False
        lone = min(len(one.seeds), len(other.seeds)) == 1
        factor = _LONE_TIME if lone else _SAME_TIME
    return max(ours, theirs) > factor * min(ours, theirs)


def alike(one: Sequence[Conditions], other: Sequence[Conditions]) -> bool:
    """Whether times that were taken under these conditions can be compared."""
    both = {*one, *other}
    return len(both) <= 1 and not any(condition.busy for condition in both)


def less(found: Mapping[str, int]) -> bool:
    """Cheaper in some respect and dearer in none."""
    return -1 in found.values() and 1 not in found.values()


def text(cost: Cost, variant: VariantResult, marked: Marked) -> str:
    """A cost with its unit; a time that is not to be compared is marked."""
    found = cost.text(variant)
    known = cost.amount(variant) is not None
    return f"{found} {UNLIKE}" if known and (variant.group, cost.key) in marked else found


def between(cost: Cost, variant: VariantResult) -> str:
    """The least and the most over the seeds, where they are written differently."""
    ends = variant.spread.get(cost.key)
    if ends is None or cost.amount(variant) is None:
        return ""
    low, high = (cost.written(end) for end in ends)
    return "" if low == high else f"{low} to {high}"


def unlike(comparison: Comparison) -> Marked:
    """Times and speeds that were not taken under the conditions of most others."""
    good = [variant for variant in comparison.variants if variant.has_result]
    trained = {v.group: v.timed for v in good if v.trained and v.timed}
    answering = {v.group: v.answering for v in good if v.answering}
    return frozenset(
        (group, key)
        for found, keys in ((trained, TIMES), (answering, (_SPEED,)))
        for group in _apart(found)
        for key in keys
    )


def _apart(found: Mapping[str, tuple[Conditions, ...]]) -> list[str]:
    quiet = Counter(taken for taken in found.values() if alike(taken, taken))
    most = quiet.most_common(1)[0][0] if quiet else ()
    return [group for group, taken in found.items() if not alike(taken, most)]
