"""Bits per byte."""

from __future__ import annotations

from typing import Any

from harness.data.render import scored_bytes
from harness.inference.likelihood import log_likelihoods
from harness.scorers._windows import WindowScorer
from harness.scorers.base import Metric, ScoreJob


class BitsPerByte(WindowScorer):
    """Bits that a model needs for each UTF-8 byte of text, as lm-eval defines it
    (github.com/EleutherAI/lm-evaluation-harness, `bits_per_byte`): the sum of negative
    log-likelihoods in nats, divided by ln 2 and by the number of bytes that are scored. Bytes do
    not depend on the tokenizer, so that models with different tokenizers can be compared.

    In rows of text every token is scored, after the token that begins sequences (or, if there is
    none, the one that ends them). Long rows are read in windows as in perplexity; lm-eval's windows
    overlap in one token only, but for the last. In rows with an answer, the answer is scored, given
    the prompt; its end-of-sequence token costs bits and has no bytes.
    """

    VERSION = 1
    metrics = {
        "bits_per_byte": Metric("bits_per_byte", False, {"nll": "nll", "bytes": "bytes"}, "bits"),
    }

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        variant, rows = job.model(), job.rows()
        likelihoods = log_likelihoods(
            variant.model, variant.tokenizer, rows, self.max_length, self.stride,
            self.batch_tokens, job.progress, every_token=True,
        )  # fmt: skip
        return [
            {**_keys(line), "nll": line["nll"], "bytes": float(scored_bytes(row))}
            for row, line in zip(rows, likelihoods, strict=True)
        ]


def _keys(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("nll", "tokens")}
