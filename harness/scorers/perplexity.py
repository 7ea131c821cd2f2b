"""Perplexity."""

from __future__ import annotations

from typing import Any

from harness.inference.likelihood import log_likelihoods
from harness.scorers._windows import WindowScorer
from harness.scorers.base import Metric, ModelJob


class Perplexity(WindowScorer):
    """exp of the mean negative log-likelihood a token (nats), weighted by tokens.

    Rows with an answer are scored on the answer given the prompt, as they are trained on; rows of
    text on every token, long ones in windows of `max_length` that move by `stride`, each token
    scored once with at least max_length - stride tokens before it
    (huggingface.co/docs/transformers/perplexity). Compare it only between models of one tokenizer:
    `bits_per_byte` compares those of several.
    """

    VERSION = 4
    metrics = {
        "perplexity": Metric("perplexity", False, {"nll": "nll", "tokens": "tokens"}),
    }

    def score_model(self, job: ModelJob) -> list[dict[str, Any]]:
        return log_likelihoods(
            job.model, job.tokenizer, job.rows, self.max_length, self.stride, self.batch_tokens,
            job.progress,
        )  # fmt: skip
