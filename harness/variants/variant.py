"""What a suite compares: the cells of its matrix, and the variants beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.methods.base import Method
from harness.suite.suite import Generate
from harness.variants.steps import Trained


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of four: `Cell`, `Untrained`, `Elsewhere` or `Merged`.

    Attributes:
        id: unique in the suite, and what people type: `lora-sft`, `zero-shot`, `lora-sft#1`.
        group: the id without the seed: what a claim about a method is about.
        model: entry of `models:`.
        generate: how it answers.
        evaluations: data entries on whose test rows it is scored.
        labels: axis or hyper-parameter -> what this variant has there.
    """

    id: str
    group: str
    model: str
    generate: Generate
    evaluations: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    @property
    def unmerged(self) -> Variant:
        """The variant whose checkpoint it is scored by: itself, but for a merged one."""
        return self

    @property
    def cell(self) -> Cell | None:
        """The cell whose training it is scored by; None where nothing is trained for it here."""
        unmerged = self.unmerged
        return unmerged if isinstance(unmerged, Cell) else None

    @property
    def elsewhere(self) -> Elsewhere | None:
        """The checkpoint trained elsewhere that it is scored by; None where there is none."""
        unmerged = self.unmerged
        return unmerged if isinstance(unmerged, Elsewhere) else None


@dataclass(frozen=True, kw_only=True)
class Untrained(Variant):
    """A use of an untrained model."""


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Variant):
    """A checkpoint that was trained elsewhere; its group is its name in `checkpoints:`."""


@dataclass(frozen=True, kw_only=True)
class Cell(Variant):
    """A cell of the matrix with one seed.

    Attributes:
        data: data entry that it trains on, where an objective names no other.
        recipe: the training that ends its recipe, with all that it reads.
        models: the cells of the models beside it, by the objective that trains each.
    """

    data: str
    method: Method
    recipe: Trained
    models: Mapping[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Merged(Variant):
    """Another variant with the adapter merged into the model's whole weights."""

    of: Cell | Elsewhere

    @property
    def unmerged(self) -> Variant:
        return self.of
