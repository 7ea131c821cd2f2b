"""Variants: the cells of a suite's matrix, and what is compared with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.methods.base import Method
from harness.suite.suite import Generate
from harness.variants.steps import Trained


@dataclass(frozen=True)
class Variant:
    """One cell of the matrix, or one use of an untrained model.

    Attributes:
        id: unique in the suite, and what people type: `lora-sft`, `zero-shot`, `lora-sft#1`.
        group: the id without the seed: what a claim about a method is about.
        labels: axis or hyper-parameter -> what this cell has there.
        evaluations: data entries on whose test rows it is scored.
        checkpoint: its name in the suite's `checkpoints`, when it was trained elsewhere.
        merged_from: the group whose training it shares, when it is that with the adapter merged.
        recipe: the training that ends its recipe, with all before it; None where nothing is
            trained for it here.
        models: the cells of the models beside it, by the objective that trains each.
    """

    id: str
    group: str
    model: str
    data: str | None
    method: Method | None
    seed: int
    generate: Generate
    evaluations: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    checkpoint: str = ""
    merged_from: str = ""
    recipe: Trained | None = None
    models: Mapping[str, Variant] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether anything is trained for it here."""
        return self.method is not None and not self.checkpoint
