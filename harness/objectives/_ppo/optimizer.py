"""PPO's optimizer and its learning rates."""

from __future__ import annotations

import math
from typing import Any

import torch

from harness.objectives._ppo.models import Actor
from harness.objectives.ppo import Ppo


def optimizer_of(objective: Ppo, actor: Actor) -> torch.optim.Optimizer:
    """AdamW with two groups: the policy's parameters, and those of the value model or head."""
    policy = list(actor.policy_parameters().values())
    value = list(actor.value_parameters().values())
    groups: list[dict[str, Any]] = [
        {"params": policy, "weight_decay": objective.weight_decay},
        {"params": value},
    ]
    return torch.optim.AdamW(
        groups,
        lr=objective.learning_rate,
        betas=(objective.adam_beta1, objective.adam_beta2),
        eps=objective.adam_epsilon,
        weight_decay=0.0,
        fused=actor.model.device.type == "cuda",
    )


def set_rates(objective: Ppo, optimizer: torch.optim.Optimizer, step: int, steps: int) -> float:
    """Set the learning rates of both groups for a step; return the policy's."""
    factor = rate_factor(objective, step, steps)
    value = objective.value_learning_rate or objective.learning_rate
    for group, peak in zip(optimizer.param_groups, (objective.learning_rate, value), strict=True):
        group["lr"] = factor * peak
    return factor * objective.learning_rate


def rate_factor(objective: Ppo, step: int, steps: int) -> float:
    """Learning rate of a step (counted from 0) divided by the peak: a linear warmup, then the
    schedule."""
    warm = math.ceil(steps * objective.warmup_ratio)
    if step < warm:
        return (step + 1) / warm
    gone = (step - warm) / max(1, steps - warm)
    return {
        "constant": 1.0,
        "linear": 1 - gone,
        "cosine": 0.5 * (1 + math.cos(math.pi * gone)),
    }[objective.lr_scheduler_type]
