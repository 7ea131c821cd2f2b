"""Detects the collapse of a policy and stops the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.core.errors import StageFailed
from harness.objectives.ppo import Ppo


def sign(objective: Ppo, figures: Mapping[str, float], answers: Sequence[list[int]]) -> str | None:
    """A sign of collapse in a step, as a sentence with its numbers; None if there is none.

    Args:
        figures: the step's `kl` (nats per answer), `entropy` (nats per token) and `eos_rate`.
        answers: the token ids of the step's answers, including the end-of-sequence token.
    """
    if figures["kl"] > objective.collapse_kl:
        return (
            f"the KL to the starting policy is {figures['kl']:.1f} nats an answer, over"
            f" collapse_kl {objective.collapse_kl:g}"
        )
    if figures["entropy"] < objective.collapse_entropy:
        return (
            f"the entropy is {figures['entropy']:.2g} nats a token, under collapse_entropy"
            f" {objective.collapse_entropy:g}: the policy gives one answer only"
        )
    if len(answers) > 1 and figures["eos_rate"] == 1 and max(map(len, answers)) == 1:
        return f"all {len(answers)} answers are empty"
    return None


def require_finite(figures: Mapping[str, float], step: int) -> None:
    """Check that all figures of a step are finite.

    Raises:
        StageFailed: a figure is not; the message names it and the step.
    """
    bad = [name for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        raise StageFailed(
            "loss is not a number",
            f"{bad[0]} of step {step} is {figures[bad[0]]}",
            fix="lower the learning rate, raise kl_coef, or clip with max_grad_norm",
        )


def verdict(reason: str, step: int, patience: int) -> StageFailed:
    """The exception for a collapsed run.

    Args:
        reason: the result of `sign` for the last step.
        patience: number of steps in a row that showed a sign of collapse.
    """
    steps = f"in {patience} steps running" if patience > 1 else "in one step"
    return StageFailed(
        "collapse",
        f"the policy collapsed by step {step}: {reason}, {steps}",
        fix="raise kl_coef or use kl_control: adaptive, lower learning_rate or ppo_epochs; a score"
        " that still rose was reward hacking",
    )
