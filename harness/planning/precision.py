"""The formats that a plan's trainings compute in: what cannot work is refused, what is coarse is
named.

What trains is float32 and is computed under autocast in the model's dtype (`models.precision`).
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.core.errors import SuiteError
from harness.methods.base import Method
from harness.objectives.base import Objective


def refuse_dtype(method: Method, objective: Objective, dtype: str, device: str, where: str) -> None:
    """Refuse float16 where small gradients would be lost, as nothing scales the loss.

    Args:
        where: the model's place in the suite.

    Raises:
        SuiteError: with the reason and the fix.
    """
    if dtype != "float16":
        return
    reason = None
    if device == "cpu":
        reason = "on a CPU, as its loss must be scaled, and transformers does so on a GPU alone"
    elif not objective.scales_loss:
        reason = f"with {objective.name}, whose trainer does not scale the loss"
    elif not method.keeps_float32():
        reason = f"with {method.name} as set: a scaled loss needs float32 weights to train"
    if reason is not None:
        raise SuiteError(
            f"float16 cannot be trained {reason}",
            where=f"{where}.dtype",
            fix="set dtype: bfloat16, whose range is that of float32, or float32",
        )


def coarse_trainings(trained: Iterable[tuple[str, Method, str]]) -> tuple[str, ...]:
    """A warning for each variant whose weights train in a short format, as its suite asks.

    Args:
        trained: a variant's group, its method, its model's dtype.
    """
    coarse = dict.fromkeys(
        group for group, method, dtype in trained
        if not method.keeps_float32() and (method.adapts or dtype != "float32")
    )  # fmt: skip
    return tuple(
        f"{group} trains weights in a short format: steps much smaller than a weight are lost in"
        " its rounding, so that it is no fair match for variants that train float32 weights"
        for group in coarse
    )
