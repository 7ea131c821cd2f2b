"""Test rows that stand among training rows: their counts, and when they are told first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.core.text import number_of
from harness.planning.planner import Plan
from harness.store.stage import Record

SEVERE = 0.1
"""From this share of test rows on that stand in the training rows, scores say more of memory."""


def contamination(planned: Plan, records: Mapping[str, Record]) -> Iterable[dict[str, Any]]:
    """The result of each check for test rows among training rows, or why the check failed."""
    for stage in planned.contamination:
        record = records[stage.key]
        yield {"pair": stage.label, **(record.metrics if record.ok else {"error": record.error})}


def contaminated(planned: Plan, records: Mapping[str, Record]) -> Iterable[str]:
    """One sentence over all pairs of training and test rows that share copies."""
    checked = [(stage.label, records[stage.key].metrics) for stage in planned.contamination]
    leaking = [(label, m) for label, m in checked if m.get("exact") or m.get("overlap")]
    if not leaking:
        return
    label, most = max(leaking, key=lambda pair: pair[1]["exact"] + pair[1]["overlap"])
    exact, overlap = most["exact"], most["overlap"]
    worst = (
        f"{exact or 'none'} of {most['test_rows']} test rows {'stand' if exact > 1 else 'stands'}"
        f" in the training rows, {'and' if exact else 'but'} {overlap}{' more' if exact else ''}"
        f" {'shares' if overlap == 1 else 'share'} half of their {most['n']}-grams"
    )
    if len(checked) > 1:
        worst = (
            f"in {len(leaking)} of {number_of(len(checked), 'pair')} of training and test rows,"
            f" both share text; most in {label}: {worst}"
        )
    else:
        worst = f"{label}: {worst}"
    yield f"Contamination: {worst}; see the report's table."


def severely(pairs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each pair of which so many test rows stand in the training rows that the
    scores on them mislead.

    Args:
        pairs: as `contamination` gives them, and a comparison has them.
    """
    for pair in pairs:
        exact, rows = pair.get("exact") or 0, pair.get("test_rows") or 0
        if exact and exact >= SEVERE * rows:
            yield (
                f"Trained on the test: {exact:,} of {number_of(rows, 'test row')} stand in the"
                f" training rows ({pair['pair']}), so that scores on them show what was learnt by"
                " heart, and no verdict on them says which variant is better on new rows."
            )
