"""How often the better of two answers is the more likely one to a policy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from harness.core.errors import DataError
from harness.data.row import Row
from harness.inference.context import context_of
from harness.inference.likelihood import log_likelihoods
from harness.scorers.base import SHARE, Asked, Metric, ScoreJob, Scorer, Subject


class PreferenceAccuracy(Scorer):
    """Share of held-out preferences in which the model itself gives the better answer a higher
    log-probability (half for equal ones); and by how many nats (per token, with `per_token`).

    It reads pairs (`preference`) and rankings (`ranked`: the mean over the pairs of a row that are
    no tie). If a pair names its dimension, that is its group in the tables. No reference model is
    used: for the implicit reward of DPO's paper, compare the variant with its start. Two equal
    answers count as equal, whatever the last digits of their likelihoods. If a pair is longer than
    the model's context, each answer is read after half a context of the prompt's end.
    """

    VERSION = 2
    metrics = {
        "preference_accuracy": Metric(bounds=SHARE),
        "preference_margin": Metric(unit="nats"),
    }

    per_token: bool = True
    """Divide log-probabilities by the number of the answer's tokens, so that longer answers are not
    less likely for their length."""
    batch_tokens: int = Field(8192, gt=0)
    """Tokens of one forward pass; fewer if the logits that are used take more than 1 GiB."""

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        return {"model": of.model(), "rows": of.rows()}

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        variant, rows = job.model(), job.rows()
        answers = [list(_answers(row)) for row in rows]
        sides = [
            {"id": "", "cluster": "", "group": "", "prompt": row["prompt"], "completion": answer}
            for row, listed in zip(rows, answers, strict=True)
            for answer, _ in listed
        ]
        longest = context_of(variant.model) or 1 << 30
        # A step of a whole window would leave no prompt before what does not fit.
        step = max(1, longest // 2)
        likelihoods = iter(
            log_likelihoods(
                variant.model, variant.tokenizer, sides, longest, step, self.batch_tokens,
                job.progress,
            )
        )  # fmt: skip
        return [
            {
                "example_id": row["id"],
                "cluster": row["cluster"],
                "group": row.get("dimension") or row["group"],
                **self._held([(answer, good, next(likelihoods)) for answer, good in listed]),
            }
            for row, listed in zip(rows, answers, strict=True)
        ]

    def _held(self, answers: list[tuple[Any, float, dict[str, Any]]]) -> dict[str, float]:
        """Means over the pairs of one row that are no tie.

        Args:
            answers: each with how good it is, and its `nll` (nats) and `tokens`.
        """
        likely = [
            (said, good, -sums["nll"] / (max(1.0, sums["tokens"]) if self.per_token else 1))
            for said, good, sums in answers
        ]
        margins = [
            0.0 if said == other_said else (one - other) * (1 if good > less else -1)
            for (said, good, one), (other_said, less, other) in itertools.combinations(likely, 2)
            if good != less
        ]
        right = [0.5 if margin == 0 else float(margin > 0) for margin in margins]
        return {
            "preference_accuracy": sum(right) / len(right),
            "preference_margin": sum(margins) / len(margins),
        }


def _answers(row: Row) -> Iterator[tuple[Any, float]]:
    """The answers of a row with a number for each: the higher, the better.

    Raises:
        DataError: the row prefers no answer to another.
    """
    if "chosen" in row:
        yield from ((row["chosen"], 1.0), (row["rejected"], 0.0))
        return
    if "responses" not in row:
        raise DataError(
            f"row {row['id']} is no preference",
            fix="name an entry of pairs or rankings: `preference_accuracy: {data: ...}`",
        )
    goods = row["scores"] if row.get("scores") is not None else [-rank for rank in row["ranks"]]
    if len(set(goods)) < 2:
        raise DataError(f"row {row['id']} ties all its answers", fix="leave it out")
    yield from zip(row["responses"], goods, strict=True)
