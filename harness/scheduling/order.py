"""The order in which stages start: those on the longest path first.

A long training that begins last leaves every other slot idle until it ends (Graham, 1969, "Bounds
on multiprocessing timing anomalies"). All stages of a path rank together: a variant's scores follow
its training, and a fault in them shows before the next one is paid for.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.store.kind import kind_of
from harness.store.stage import Stage

_SOME_RATE = 5e10


def longest_path_first(stages: Sequence[Stage]) -> list[Stage]:
    """The stages, sorted by the expected seconds of the longest path through each of them. Stages
    with equal paths keep their order.

    If the time of a long kind of stage is unknown, it counts as much as the longest known one.

    Args:
        stages: each after its inputs.
    """
    known = {s.key: seconds for s in stages if (seconds := _seconds(s)) is not None}
    longest = max(known.values(), default=0.0)
    expected = {s.key: known.get(s.key, longest if kind_of(s.kind).long else 0.0) for s in stages}
    before, after = dict(expected), dict(expected)
    for stage in stages:
        ends = [before[s.key] for s in stage.inputs.values() if s.key in expected]
        before[stage.key] += max(ends, default=0.0)
    for stage in reversed(stages):
        for source in stage.inputs.values():
            if source.key in expected:
                after[source.key] = max(after[source.key], expected[source.key] + after[stage.key])
    return sorted(stages, key=lambda s: expected[s.key] - before[s.key] - after[s.key])


def _seconds(stage: Stage) -> float | None:
    """Expected seconds. If none are known, they are estimated from the stage's operations at a
    fixed rate, which is good enough to sort by."""
    if stage.expected_seconds is not None:
        return stage.expected_seconds
    work = stage.predicted.get("flops")
    return None if work is None else work / _SOME_RATE
