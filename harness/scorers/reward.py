"""What the suite's reward model says of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from harness.data.encode import after_prompt
from harness.data.render import prompt_row, turns_of
from harness.inference.batches import end_tokens, pad_token
from harness.inference.context import context_of
from harness.inference.rewards import answered_ids, require_all, rewards
from harness.scorers.base import REWARD, ROWS, Metric, Prediction, PredictionJob, Scorer


class Reward(Scorer):
    """Mean reward of the greedy answers by the suite's reward model (`reward_model:`), the training
    stage that serves the policies too; where none needs it, it is trained for this scorer.

    The model reads prompt and answer as it was trained on them; an answer that was cut at the
    length limit stands without its end. One that is longer with its prompt than the reward model's
    context has no reward, and the stage fails with their number and ids. A policy can learn to
    please this model and nobody else (Gao et al., 2023, arXiv:2210.10760): hold the reward against
    win_rate, and measure both on prompts that nothing was trained on. Rewards have no scale of
    their own, and those of two reward models are not compared.
    """

    VERSION = 3
    metrics = {"reward": Metric()}

    batch_tokens: int = Field(8192, gt=0)
    """Tokens of a batch, padding included."""

    def shows(self) -> str:
        return "reward"

    def beside(self) -> tuple[str, ...]:
        return (ROWS, REWARD)

    def score_job(self, job: PredictionJob) -> list[dict[str, float]]:
        model, tokenizer = job.reward_model, job.reward_tokenizer
        ends = end_tokens(model, tokenizer, chats=turns_of(job.rows[0]) is not None)
        sequences = [
            answered_ids(
                tokenizer, row, _written(tokenizer, row, p), ends, cut=p.finish == "length"
            )
            for row, p in zip(job.rows, job.predictions, strict=True)
        ]
        pad, ids = pad_token(tokenizer), [p.example_id for p in job.predictions]
        found = rewards(model, pad, sequences, self.batch_tokens, job.progress)
        fix = "lower generate.max_new_tokens, or leave these rows out: variants are compared on all"
        scores = require_all(found, ids, context_of(model), fix)
        return [{"reward": value} for value in scores]


def _written(tokenizer: Any, row: Mapping[str, Any], prediction: Prediction) -> str:
    """The answer in the form of its prompt: what follows plain text begins where that ends."""
    asked = prompt_row(row)["prompt"]
    if not isinstance(asked, str):
        return prediction.text
    return after_prompt(tokenizer, asked, prediction.raw).rstrip()
