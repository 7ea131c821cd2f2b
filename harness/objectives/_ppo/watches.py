"""Observes the steps of PPO: which parameters of policy and value get gradients and move."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.objectives._trl import evidence_file as _evidence_file
from harness.objectives._trl.movement import Watch, due_by, elements, places
from harness.objectives.base import Evidence


class Watches:
    """Watches the policy, and the value model or head, which the stage's audit does not cover.

    Create it before any of them has trained, and before a checkpoint is restored.
    """

    def __init__(
        self, policy: Mapping[str, Any], gates: Mapping[str, str], value: Mapping[str, Any]
    ) -> None:
        self._policy, self._value = Watch(policy, gates), Watch(value, {})
        self._before = places(value)

    def look(self, optimizer: torch.optim.Optimizer) -> None:
        """Look at the gradients of a step, after clipping and before the optimizer's step."""
        self._policy.look(optimizer)
        self._value.look(optimizer)

    def evidence(self) -> Evidence:
        """The observations of the policy."""
        return self._policy.evidence()

    def save(self, checkpoint: Path) -> None:
        """Write the observations into a checkpoint's folder."""
        _evidence_file.save(checkpoint, self._own())

    def restore(self, checkpoint: Path) -> None:
        """Load the observations from a checkpoint's folder."""
        _evidence_file.restore(checkpoint, self._own())

    def _own(self) -> dict[str, Watch]:
        return {"policy": self._policy, "value": self._value}

    def value_checks(self, value: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
        """Audits of the value model or head: gradients reach all of it, its elements move, and all
        are finite."""
        if not self._value.signal:
            detail = "no step carried a signal for it"
            return ({"check": "the value model moved", "status": "skipped", "detail": detail},)
        missing = self._value.without_gradient
        bad = [name for name, tensor in value.items() if not tensor.isfinite().all()]
        return (
            _check("gradients reached all of the value model", missing),
            _check("all of the value model is finite", bad),
            elements(self._before, value, due_by(self._value.dues), name="the value model moved"),
        )


def _check(name: str, wrong: Any) -> Mapping[str, str]:
    detail = f"not {wrong[0]} and {len(wrong) - 1} others" if wrong else "all of its tensors"
    return {"check": name, "status": "failed" if wrong else "passed", "detail": detail}
