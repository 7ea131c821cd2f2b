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
    log-likelihoods in nats, over ln 2, over the bytes of what is scored. Bytes do not depend on the
    tokenizer, so that models of several compare, as their perplexities do not.

    Rows of text are scored on every token, after the token that begins sequences (else the one that
    ends them); long ones in windows, as in perplexity, where lm-eval's overlap in one token, up to
    the last. Rows with an answer are scored on the answer given the prompt: the end of the answer
    costs bits and has no bytes.
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
