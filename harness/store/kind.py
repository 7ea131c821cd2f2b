"""What is read of a kind of stage below the layer that declares it (harness.stages.base)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

from harness.core import registry
from harness.store.stage import Record


class RowCounts(NamedTuple):
    """How many rows a stage used; reason -> how many it left out; how many it used shortened."""

    used: int
    left_out: Mapping[str, int]
    cut: int = 0


class Kind(Protocol):
    """The part of a kind's declaration that the scheduler and the store's readers need."""

    long: bool
    tolerant: bool
    purpose: str

    def headline(self, record: Record) -> str: ...

    def row_counts(self, metrics: Mapping[str, Any]) -> RowCounts | None: ...


def kind_of(name: str) -> Kind:
    """The declaration of a kind of stage.

    Raises:
        SuiteError: there is no such kind; the package that brings it may be gone.
    """
    return cast(Kind, registry.find("stage", name))
