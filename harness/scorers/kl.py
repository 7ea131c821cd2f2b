"""Divergence from the base model, or from the checkpoint that the last stage started from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.core.component import NotHashed
from harness.inference.likelihood import divergences
from harness.scorers._windows import WindowScorer
from harness.scorers.base import Asked, Metric, ScoreJob, Subject


class Kl(WindowScorer):
    """Kullback-Leibler divergence (Kullback & Leibler, 1951, doi:10.1214/aoms/1177729694) between
    the next-token distributions of the variant and of its base (`to: base`) or its start, which is
    the checkpoint that its last stage started from (`to: start`), in nats per token.

    Direction: `from_base`, the default, is KL(base || variant): at each token the sum over the
    whole vocabulary of p(v) * (log p(v) - log q(v)), where p is the distribution of the base and q
    that of the variant, at temperature 1 (it correlates with forgetting in Shenfield et al., 2025,
    arXiv:2509.04259). `to_base` is KL(variant || base), where p is the variant's distribution (the
    penalty of reinforcement learning has this direction, on the policy's own tokens).

    Text: both models read the rows as the data has them, teacher-forced: each token is predicted
    from the tokens of the row before it, and nothing is sampled. So the metric says how far the
    variant moved on the text of the data, not on its own answers.

    Tokens: in rows with an answer (the chosen one of a preference, the best one of a ranking), the
    tokens of the answer and its end, given the prompt; in rows of text, all but the first token.
    Long rows are cut into windows as in perplexity, and each token counts once. The metric is the
    sum over the tokens of all rows divided by their number, so that long rows have more weight.

    The base itself has a divergence of 0. It is loaded beside the variant, never quantised; a start
    is loaded as it was trained. A variant that starts from the base (sft) is not measured against a
    start; nor is a checkpoint that was trained elsewhere, since its start is unknown.
    """

    VERSION = 4
    metrics = {
        "kl": Metric(
            "per_token", False, {"total": "kl", "tokens": "tokens"}, bounds=(0.0, math.inf)
        )
    }

    to: Annotated[Literal["base", "start"], NotHashed] = "base"
    """`base`: the untrained model; `start`: the checkpoint that the last stage started from. The
    metric is named after it: `kl_to_base` or `kl_to_start`."""
    direction: Literal["from_base", "to_base"] = "from_base"
    """`from_base` is KL(base || variant), `to_base` is KL(variant || base). With `to: start` the
    start takes the place of the base in both."""
    batch_tokens: int = Field(4096, gt=0)
    """Tokens of one forward pass. The logits of two models are held for those that are scored."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        # Most suites have two of them, and the tables must tell them apart.
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
