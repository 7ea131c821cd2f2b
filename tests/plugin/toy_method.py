"""A method from outside the package: only the norms train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import Method
from harness.models.files import ModelInfo, ModelRef


class Bitfit(Method):
    """Trains the norm weights alone, after BitFit (Ben Zaken et al., 2022, arXiv:2106.10199)."""

    traits = frozenset({"packing"})

    def attach(self, base: Any, also_train: tuple[str, ...] = ()) -> Any:
        for name, parameter in base.named_parameters():
            parameter.requires_grad_("norm" in name)
        return base

    def load_trained(self, ref: ModelRef, checkpoint: Path) -> Any:
        return ref.at(checkpoint).load("lm")

    def count_trainable(self, info: ModelInfo) -> int | None:
        return sum(shape[0] for name, shape in info.shapes.items() if "norm" in name)
