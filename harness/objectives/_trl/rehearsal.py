"""A rehearsal: the trainer runs through its steps, and what it would compute is written down.

So a training that is computed elsewhere has the trainer's own batches, order, schedule and number
of steps, whatever the options are.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PrinterCallback

from harness.data.steps import AdamW, Labelled, OptimizerStep, Schedule
from harness.objectives._trainer import TrainerObjective
from harness.objectives._trl.loss import LabelledTrainer


class Rehearsal(LabelledTrainer):
    """Computes no loss and changes no weight."""

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Any:
        """Write a forward pass down, with the learning rate of its step."""
        if self.state.global_step == len(self._steps):
            rate = float(self.optimizer.param_groups[0]["lr"])
            self._steps.append((rate, int(num_items_in_batch), []))
        self._steps[-1][2].append(_sequences(inputs))
        return torch.zeros(())

    def schedule(self, objective: TrainerObjective) -> Schedule:
        """Run through the training."""
        self._steps: list[tuple[float, int, list[list[Labelled]]]] = []
        self.remove_callback(PrinterCallback)
        self.train()
        steps = [OptimizerStep(rate, passes, labels) for rate, labels, passes in self._steps]
        adam = AdamW(
            objective.adam_beta1, objective.adam_beta2, objective.adam_epsilon,
            objective.weight_decay, objective.max_grad_norm,
        )  # fmt: skip
        return Schedule(steps, adam)


def _sequences(inputs: dict[str, Any]) -> list[Labelled]:
    """The rows of a batch, without padding."""
    columns = (inputs[name].tolist() for name in ("input_ids", "labels", "attention_mask"))
    return [
        Labelled(
            [token for token, there in zip(ids, mask, strict=True) if there],
            [label for label, there in zip(labels, mask, strict=True) if there],
        )
        for ids, labels, mask in zip(*columns, strict=True)
    ]
