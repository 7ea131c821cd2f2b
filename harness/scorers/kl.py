"""Divergence from the base model, or from the checkpoint that the last stage began from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.core.component import NotHashed
from harness.inference.likelihood import divergences
from harness.scorers._windows import WindowScorer
from harness.scorers.base import Asked, Metric, ScoreJob, Subject


class Kl(WindowScorer):
    """Kullback-Leibler divergence (Kullback & Leibler, 1951, doi:10.1214/aoms/1177729694) of the
    next token's distributions, of the variant's and its base's (`to: base`) or its start's, the
    checkpoint that its last stage went on from (`to: start`), in nats a token.

    Direction: `from_base`, the default, is KL(base || variant): at each token the sum over the
    whole vocabulary of p(v) * (log p(v) - log q(v)), p being the base's and q the variant's
    distribution, at temperature 1 (it goes with forgetting in Shenfield et al., 2025,
    arXiv:2509.04259). `to_base` is KL(variant || base), p being the variant's (the direction of
    reinforcement learning's penalty, whose tokens are the policy's own).

    Text: both models read the rows as the data has them, teacher-forced: each token is predicted
    from those of the row before it, and nothing is sampled. So it says how far the variant went
    where the data goes, not where its own answers do.

    Tokens: of rows with an answer (of a preference the chosen one, of a ranking the best) those of
    the answer and what ends it, given the prompt; of rows of text all but the first. Long rows are
    cut into windows as in perplexity, each token counted once. The metric is the sum over the
    tokens of all rows by their number: long rows weigh more.

    The base itself has 0. It is loaded beside the variant, as its folder has it and never
    quantised; a start as it was trained. What starts from the base (sft) has one divergence,
    measured once. Of a checkpoint trained elsewhere no start is known, and none is measured.
    """

    VERSION = 4
    metrics = {"kl": Metric("per_token", False, {"total": "kl", "tokens": "tokens"})}

    to: Annotated[Literal["base", "start"], NotHashed] = "base"
    """`base`: the untrained model; `start`: what the last stage began from. Names the metric:
    `kl_to_base` or `kl_to_start`."""
    direction: Literal["from_base", "to_base"] = "from_base"
    """`from_base` is KL(base || variant), `to_base` is KL(variant || base), wherever `to` points:
    with `to: start`, the start stands in the base's place."""
    batch_tokens: int = Field(4096, gt=0)
    """Tokens of a batch, padding included; two models' logits are held for them."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        # Two of them stand side by side in most suites: the tables must tell them apart.
        if isinstance(value, Mapping) and value.get("label") is None:
            return {**value, "label": f"kl_to_{value.get('to', 'base')}"}
        return value

    def shows(self) -> str:
        return f"from_{self.to}"

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        before = of.start() if self.to == "start" else of.base()
        return {**super().asks(of), self.to: before.model()}

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        variant, before = job.model(), job.model(self.to)
        return divergences(
            variant.model, before.model, variant.tokenizer, job.rows(), self.max_length,
            self.stride, self.batch_tokens, job.progress, from_base=self.direction == "from_base",
        )  # fmt: skip
