"""A score stage on its way: what a scorer asks for, as inputs and fields of the stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.planning.graph import VariantPath
from harness.scorers.base import Scorer
from harness.store.stage import Stage


class NotAsked(Exception):
    """A variant lacks what a scorer asks for; the message says what.

    Attributes:
        noted: True if the report says so; False where the page of the scorer does already.
    """

    def __init__(self, reason: str, *, noted: bool = False) -> None:
        super().__init__(reason)
        self.noted = noted


@dataclass
class Draft:
    """A score stage on its way: what each thing asked for adds to it.

    Attributes:
        scorer: that of this set of examples alone.
        where: the scorer's place in the suite, for messages.
        fields: of harness.stages.score.Score.
        other: what the variant is compared with, in the place of its baseline.
    """

    scorer: Scorer
    path: VariantPath
    entry: str
    split: str
    where: str
    fields: dict[str, Any]
    inputs: dict[str, Stage] = field(default_factory=dict)
    other: VariantPath | None = None

    def add(self, field: str, role: str, value: Any) -> None:
        """One more entry of a field that is a mapping."""
        self.fields[field] = {**self.fields.get(field, {}), role: value}
