"""Perplexity."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from harness.inference.likelihood import log_likelihoods
from harness.scorers.base import Metric, ModelJob, ModelScorer


class Perplexity(ModelScorer):
    """exp of the mean negative log-likelihood a token (nats), weighted by tokens.

    Rows with an answer are scored on the answer given the prompt, as they are trained on; rows of
    text on every token, long ones in windows of `max_length` that move by `stride`, each token
    scored once with at least max_length - stride tokens before it
    (huggingface.co/docs/transformers/perplexity). Compare it only between models of one tokenizer.
    """

    VERSION = 3
    metrics = {
        "perplexity": Metric("perplexity", False, {"nll": "nll", "tokens": "tokens"}),
    }

    max_length: int = Field(1024, gt=1)
    """Tokens of a window; cut to the model's context."""
    stride: int = Field(512, gt=0)
    """Tokens by which a window moves."""
    batch_tokens: int = Field(8192, gt=0)
    """Tokens of a batch, padding included."""

    @model_validator(mode="after")
    def _windows_overlap(self) -> Perplexity:
        if self.stride > self.max_length:
            raise ValueError(
                f"stride {self.stride} would skip tokens (max_length {self.max_length})"
            )
        return self

    def shows(self) -> str:
        return "language"

    def score_model(self, job: ModelJob) -> list[dict[str, Any]]:
        return log_likelihoods(
            job.model, job.tokenizer, job.rows, self.max_length, self.stride, self.batch_tokens,
            job.progress,
        )  # fmt: skip
