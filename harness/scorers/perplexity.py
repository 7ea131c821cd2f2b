"""Perplexity."""

from __future__ import annotations

from typing import Any

from harness.inference.likelihood import log_likelihoods
from harness.scorers._windows import WindowScorer
from harness.scorers.base import Metric, ScoreJob


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

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        variant = job.model()
        return log_likelihoods(
            variant.model, variant.tokenizer, job.rows(), self.max_length, self.stride,
            self.batch_tokens, job.progress,
        )  # fmt: skip
