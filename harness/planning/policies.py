"""The paths that a variant is scored beside: of its base, and of the checkpoint it started from."""

from __future__ import annotations

from dataclasses import replace

from harness.planning.graph import VariantPath
from harness.planning.recipe import name_of
from harness.variants.variant import Cell, Untrained, Variant


def base_of(path: VariantPath) -> VariantPath:
    """The untrained model under a variant, which answers with the variant's settings."""
    variant = path.variant
    base = Untrained(
        id=variant.model, group=variant.model, model=variant.model, generate=variant.generate,
        evaluations=variant.evaluations, labels=variant.labels, seed=variant.seed,
    )  # fmt: skip
    return VariantPath(base, None, {}, ())


def start_of(variant: Variant) -> Cell | None:
    """What a variant's last training stage goes on from, as a cell of its own: scored as it is,
    never merged. None where that is the base."""
    cell = variant.cell
    if cell is None or cell.recipe.start is None:
        return None
    start = cell.recipe.start
    return replace(
        cell,
        id=name_of(cell, start),
        group=start.group,
        recipe=start,
        labels={**cell.labels, "objective": start.objective.name},
    )
