"""Perplexity."""

from __future__ import annotations

from typing import Any

from harness.inference.likelihood import log_likelihoods
from harness.scorers._windows import WindowScorer
from harness.scorers.base import Metric, ScoreJob


class Perplexity(WindowScorer):
    """exp of the mean negative log-likelihood per token (in nats), over all tokens of all rows.

    In rows with an answer, the tokens of the answer are scored, given the prompt, as they are
    trained on; in rows of text, every token. Long rows are read in windows of `max_length` that
    move by `stride`: each token is scored once, with at least max_length - stride tokens before it
    (huggingface.co/docs/transformers/perplexity). Compare perplexities only between models with the
    same tokenizer; `bits_per_byte` compares models with different ones.
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
