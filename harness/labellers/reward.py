"""A reward model as the labeller."""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic import Field

from harness.data.render import encoded
from harness.inference.batches import pad_token
from harness.inference.rewards import rewards
from harness.labellers.base import LabelJob, Labeller, Verdict

_TOO_LONG = "too long for the labeller's context"


class Reward(Labeller):
    """The suite's reward model (`reward_model:`), trained on the suite's preferences. The
    probability that one answer is better is the sigmoid of the difference of their rewards (Bradley
    and Terry, 1952). Each answer is read once, so there is no position bias. Pairs with an answer
    longer than the model's context get no label, and are counted."""

    VERSION = 2
    beside = ("reward",)

    batch_tokens: int = Field(16384, gt=0)
    """Padded tokens in one forward pass. Part of the labels' identity: it changes rounding, which
    can turn a label that is all but a tie."""

    def label(self, job: LabelJob) -> list[Verdict]:
        rows: dict[str, dict[str, Any]] = {}
        keys = []
        for contest in job.contests:
            answers = (contest.one, contest.other)
            sides = [{"prompt": contest.prompt, "chosen": answer} for answer in answers]
            keys.append([json.dumps(side) for side in sides])
            rows.update(zip(keys[-1], sides, strict=True))
        sequences = [encoded(job.tokenizer, row).ids for row in rows.values()]
        pad = pad_token(job.tokenizer)
        scores = rewards(job.model, pad, sequences, self.batch_tokens, job.progress)
        known = dict(zip(rows, scores, strict=True))
        return [_verdict(known[one], known[other]) for one, other in keys]

    def sequences(self, answers: int) -> int:
        return answers


def _verdict(one: float | None, other: float | None) -> Verdict:
    if one is None or other is None:
        return _TOO_LONG
    # The sigmoid by tanh: it cannot overflow, and is exactly a half for a difference of 0.
    return 0.5 + math.tanh((one - other) / 2) / 2
