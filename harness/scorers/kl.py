"""Divergence from the base model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from harness.inference.likelihood import divergences
from harness.scorers.base import Metric, ModelJob, ModelScorer


class Kl(ModelScorer):
    """Kullback-Leibler divergence (Kullback & Leibler, 1951, doi:10.1214/aoms/1177729694) between
    the variant's and its base's distributions of the next token, in nats a token.

    At each token of the rows as they are given, the sum over the vocabulary of
    p(v) * (log p(v) - log q(v)), p being the base's distribution (`from_base`, the direction that
    goes with forgetting in Shenfield et al., 2025, arXiv:2509.04259) or the variant's (`to_base`,
    the penalty of reinforcement learning); the mean is weighted by tokens. Rows and windows are as
    in perplexity. The base itself has 0. It is loaded beside the variant, in the same precision.
    """

    VERSION = 1
    needs_base = True
    metrics = {"kl_to_base": Metric("per_token", False, {"total": "kl", "tokens": "tokens"})}

    direction: Literal["from_base", "to_base"] = "from_base"
    """`from_base` is KL(base || variant), `to_base` is KL(variant || base)."""
    max_length: int = Field(1024, gt=1)
    """Tokens of a window; cut to the model's context."""
    stride: int = Field(512, gt=0)
    """Tokens by which a window moves."""
    batch_tokens: int = Field(4096, gt=0)
    """Tokens of a batch, padding included; two models' logits are held for them."""

    @model_validator(mode="after")
    def _windows_overlap(self) -> Kl:
        if self.stride > self.max_length:
            raise ValueError(
                f"stride {self.stride} would skip tokens (max_length {self.max_length})"
            )
        return self

    def score_model(self, job: ModelJob) -> list[dict[str, Any]]:
        return divergences(
            job.model, job.base, job.tokenizer, job.rows, self.max_length, self.stride,
            self.batch_tokens, job.progress, from_base=self.direction == "from_base",
        )  # fmt: skip
