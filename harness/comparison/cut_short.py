"""Answers that were cut at the limit of their length: is the model or the limit to blame?"""

from __future__ import annotations

from collections.abc import Mapping

from harness.core.text import number_of
from harness.planning.planner import Plan
from harness.store.stage import Record

_CHARACTERS = 2
"""Of a token, at the least: so many fit into an answer for each token that it may have."""


def cut_short(
    planned: Plan,
    records: Mapping[str, Record],
    group: str,
    entry: str,
    figures: Mapping[str, float],
) -> str:
    """What is said of a variant of which many answers were cut: that it does not stop by itself
    only where nine references of ten would have had room."""
    cut = f"was cut at the length limit on {figures['truncation_rate']:.0%} of {entry}"
    paths = [p for p in planned.paths if p.variant.group == group and entry in p.generate]
    if not paths:
        return f"{cut}."
    stage = paths[0].generate[entry]
    limit = stage.config["generate"]["max_new_tokens"]
    rows = records.get(stage.inputs["data"].key)
    answers = rows.metrics.get("characters", {}).get("answer", {}) if rows is not None else {}
    usual = answers.get("p90", 0)
    if not usual:
        return f"{cut}, which is {number_of(limit, 'token')}."
    if usual <= limit * _CHARACTERS:
        return f"{cut}: it does not stop by itself."
    return (
        f"{cut}: {number_of(limit, 'token')} may be too few, as nine references of ten"
        f" have up to {usual:,} characters; raise `max_new_tokens`."
    )
