"""What `--only` leaves out of a run, and what it must not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.core.errors import ModelError, SuiteError
from harness.suite.suite import Suite
from harness.variants.expand import expand
from harness.variants.variant import Variant


def everyone(
    suite: Suite, kept: Sequence[Variant], readable: Callable[[Variant], Variant]
) -> tuple[list[Variant], tuple[str, ...]]:
    """All variants of a suite: which rows are asked is decided over them, so that a part of the
    suite is scored on the rows that the whole of it is. And a warning for each of those that have
    no say, as their model cannot be read here.

    Args:
        kept: those that are run.
        readable: a variant with what its model's files tell, or SuiteError or ModelError.
    """
    chosen, warnings = {variant.id: variant for variant in kept}, list[str]()
    variants: list[Variant] = []
    for variant in expand(suite):
        try:
            variants.append(chosen.get(variant.id) or readable(variant))
        except (SuiteError, ModelError) as error:
            warnings.append(
                f"{variant.id}, which --only leaves out, has no say in which rows are asked:"
                f" {error}"
            )
    return variants, tuple(warnings)
