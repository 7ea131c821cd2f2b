"""Claims about costs: what they compare, and from when on two costs are told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.comparison.claims import Amount, CostQuestion
from harness.comparison.costs import LONE_TIME, SAME, SAME_TIME, comparable
from harness.comparison.result import VariantResult
from harness.suite.claims import COSTS, FASTER, Claim

_COUNTED = frozenset({"trainable_parameters", "parameters", "state_bytes", "checkpoint_bytes",
                      "tokens", "flops"})  # fmt: skip
"""Costs that are counted and not measured: they have no noise."""


def cost_question(
    claim: Claim, key: str, variant: VariantResult, against: VariantResult | float, failed: str = ""
) -> CostQuestion:
    """A claim about the cost of a variant.

    Args:
        key: of the cost, in harness.suite.claims.COSTS.
        against: another variant, or an amount.
        failed: why there is nothing to decide; empty if there is.
    """
    other = against if isinstance(against, VariantResult) else None
    sides = [variant, *([] if other is None else [other])]
    amounts = [_amount(key, side) for side in sides]
    missing = [side.group for side, amount in zip(sides, amounts, strict=True) if amount is None]
    reason = _about(key, sides)
    if missing:
        reason = f"the {COSTS[key]} of {' and '.join(missing)} was not measured"
    elif other is not None and not _alike(key, variant, other):
        amounts = [None, None]
        reason = "measured beside other work, or on another device or with other threads"
    if not isinstance(against, VariantResult):
        amounts.append(Amount(against, against, against))
    name = str(against) if other is None else other.group
    return CostQuestion(claim, variant.group, name, key, amounts[0], amounts[1], reason, failed)


def _amount(key: str, variant: VariantResult) -> Amount | None:
    """A variant's cost with its range over seeds and what is not told apart from that; None if it
    was not measured."""
    value = variant.cost.get(key)
    if value is None and not variant.trained and key not in (*FASTER, "parameters"):
        value = 0.0  # an untrained model has no costs of training
    if value is None or not math.isfinite(value):
        return None
    low, high = variant.spread.get(key, (value, value))
    noise = math.sqrt(1.0 if key in _COUNTED else _noise(key, variant))
    return Amount(value, min(low, value) / noise, max(high, value) * noise, len(variant.seeds))


def _noise(key: str, variant: VariantResult) -> float:
    """How many times greater a measured cost may be by chance alone."""
    if key.startswith("peak_"):
        return SAME
    return LONE_TIME if len(variant.seeds) == 1 else SAME_TIME


def _about(key: str, sides: Sequence[VariantResult]) -> str:
    """What a reader must know of how a cost was measured."""
    if key in _COUNTED or key.startswith("peak_"):
        return ""
    times = max(_noise(key, side) for side in sides)
    return f"as times do not repeat exactly, one counts as greater only from {times:g} times on"


def _alike(key: str, one: VariantResult, other: VariantResult) -> bool:
    """Whether two costs were measured under the same conditions, where that matters."""
    if key == "tokens_per_second":
        return comparable(one.answering, other.answering)
    return key not in ("train_seconds", "joules", "mfu") or comparable(one.timed, other.timed)
