"""The pretraining term of PPO-ptx (InstructGPT, equation 2)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.core.device import upload
from harness.core.errors import StageFailed
from harness.data.encode import ended
from harness.data.render import encoded
from harness.data.row import Row
from harness.inference.batches import budget_batches, padded, within_logits
from harness.objectives._ppo.models import autocast, full
from harness.objectives._ppo.rollout import derived_seed
from harness.objectives.base import TrainJob
from harness.objectives.ppo_ptx import PpoPtx


class Pretraining:
    """Pieces of pretraining text, drawn at random for each gradient step.

    Attributes:
        pieces: token ids; documents end in the end-of-sequence token.
        coef: gamma of the equation.

    Raises:
        StageFailed: the data entry has no text to train on.
    """

    def __init__(self, objective: PpoPtx, job: TrainJob, pad: int) -> None:
        self.objective, self.job, self.pad = objective, job, pad
        self.coef = objective.ptx_coef
        rows = job.more_rows.get("pretraining", [])
        self.pieces = pieces(job.tokenizer, rows, objective.ptx_max_length)
        if not self.pieces:
            raise StageFailed(
                "pretraining rows",
                f"data entry '{objective.ptx_data}' holds no text to train on",
                fix="name an entry with training rows as ppo_ptx.ptx_data",
            )

    def backward(self, answers: int, *path: int) -> tuple[Tensor, int]:
        """Add the gradient of gamma times the mean loss per token.

        Args:
            answers: number of answers in the gradient step.
            path: numbers that identify the gradient step, such as step, epoch and minibatch.

        Returns:
            The mean loss per token in nats, a scalar in float64, and the number of tokens.
        """
        count = max(1, round(answers * self.objective.ptx_ratio))
        order = random.Random(derived_seed("ptx", self.job.data_seed, *path))
        chosen = [order.choice(self.pieces) for _ in range(count)]
        tokens = sum(len(piece) - 1 for piece in chosen)
        summed = torch.zeros((), dtype=torch.float64, device=self.job.device)
        budget = within_logits(self.job.model, self.objective.batch_tokens)
        for batch in budget_batches([len(p) for p in chosen], budget):
            loss = self._summed([chosen[i] for i in batch])
            (self.coef * loss / tokens).backward()
            summed += loss.detach()
        return summed / tokens, tokens

    def _summed(self, rows: Sequence[list[int]]) -> Any:
        """-log pi(x), summed over all tokens of the rows."""
        device = torch.device(self.job.device)
        ids, mask = (upload(each, device) for each in padded(rows, self.pad))
        with autocast(self.job):
            out = self.job.model(input_ids=ids, attention_mask=mask, use_cache=False)
        logits = full(out.logits[:, -ids.shape[1] :][:, :-1])
        targets = torch.where(mask[:, 1:] == 1, ids[:, 1:], -100)
        return cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")


def pieces(tokenizer: Any, rows: Sequence[Row], longest: int) -> list[list[int]]:
    """Cut documents into pieces of at most `longest` token ids; drops pieces of one token."""
    cut = []
    for row in rows:
        ids = ended(tokenizer, encoded(tokenizer, row).ids)
        cut += [ids[i : i + longest] for i in range(0, len(ids), longest)]
    return [piece for piece in cut if len(piece) > 1]
