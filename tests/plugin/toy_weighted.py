"""An objective from outside the package with a recipe of its own.

Its recipe trains an SFT before it, has rows made by a stage kind of this plugin, and has a reward
model beside it.
"""

from __future__ import annotations

import json
from typing import Any

from harness import Objective
from harness.data.render import encode
from harness.objectives.base import TrainJob, TrainResult


class Weighted(Objective):
    """A step of SGD on each row, longer the better the reward model likes the row."""

    layouts = ("messages",)

    learning_rate: float = 1e-2
    """Step size of a row that the reward model gives a half."""

    def recipe(self, r: Any) -> Any:
        rows = r.stage("capitals", mark="!")
        return r.train(self, start=r.start(self, "sft"), rows=rows, reward=r.model("reward"))

    def steps(self, rows: int) -> int:
        return rows

    def working_part(self) -> Any:
        return train


def train(objective: Weighted, job: TrainJob) -> TrainResult:
    import torch

    trained = [p for p in job.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=objective.learning_rate)
    losses, tokens = [], 0
    with job.step_log.open("w") as log:
        for step, row in enumerate(job.rows, 1):
            ids = torch.tensor([encode(job.tokenizer, row)[0]])
            with torch.inference_mode():
                liking = torch.sigmoid(job.reward_model(input_ids=ids).logits).item()
            loss = job.model(input_ids=ids, labels=ids).loss
            (loss * 2 * liking).backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            tokens += ids.numel()
            log.write(json.dumps({"step": step, "loss": losses[-1], "liking": liking}) + "\n")
            job.progress(step, len(job.rows), "")
    metrics = {"first_loss": losses[0], "final_loss": losses[-1], "last_row": job.rows[-1]["id"]}
    return TrainResult(len(losses), tokens, 0.0, None, None, None, {}, metrics)
