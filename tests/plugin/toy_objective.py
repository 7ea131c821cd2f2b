"""An objective from outside the package: a plain loop over rows."""

from __future__ import annotations

import json
from typing import Any

from harness import Objective
from harness.data.render import encode
from harness.objectives.base import TrainJob, TrainResult


class PlainSft(Objective):
    """One gradient step a row, on every token."""

    layouts = ("messages", "prompt_completion", "text")

    learning_rate: float = 1e-2
    """Step size of plain SGD."""

    def steps(self, rows: int) -> int:
        return rows

    def working_part(self) -> Any:
        return _train


def _train(objective: PlainSft, job: TrainJob) -> TrainResult:
    import torch

    trained = [p for p in job.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=objective.learning_rate)
    losses, tokens = [], 0
    with job.step_log.open("w") as log:
        for step, row in enumerate(job.rows, 1):
            ids = torch.tensor([encode(job.tokenizer, row)[0]])
            loss = job.model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            tokens += ids.numel()
            log.write(json.dumps({"step": step, "loss": losses[-1]}) + "\n")
            job.progress(step, len(job.rows), "")
    metrics = {"first_loss": losses[0], "final_loss": losses[-1]}
    return TrainResult(len(losses), tokens, 0.0, None, None, None, {}, metrics)
