"""Metrics that a suite names and does not measure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from harness.core import registry
from harness.core.errors import HarnessError, mistyped
from harness.core.other_tools import instead, plain, same
from harness.scorers.base import Scorer


def how_to_measure(metric: str, known: Iterable[str]) -> str:
    """How a suite would measure a metric that it does not have; empty if one of its own is called
    so, or if no scorer measures it."""
    known = list(known)
    if same(metric, known) or mistyped(metric, known):
        return ""
    names = registry.names("scorer")
    metric = metric.partition("/")[0]
    meant = same(metric, names) or next((name for name in names if _measures(name, metric)), "")
    if not meant:
        return instead(metric)
    return f"the scorer `{meant}` measures it, which the suite does not have: add it to `scorers:`"


def _measures(name: str, metric: str) -> bool:
    try:
        declared = cast(type[Scorer], registry.find("scorer", name))
    except HarnessError:  # a package that cannot be imported is not what is wrong here
        return False
    return plain(metric) in map(plain, declared.metrics)
