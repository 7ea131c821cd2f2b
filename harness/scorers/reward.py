"""The rewards of answers by the suite's reward model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, PrivateAttr

from harness.data.encode import after_prompt, cut_left
from harness.data.render import prompt_row, turns_of
from harness.inference.batches import end_tokens, pad_token
from harness.inference.context import context_of
from harness.inference.rewards import answered_ids, require_all, rewards
from harness.scorers.base import Asked, Metric, Prediction, ScoreJob, Scorer, Subject


class Reward(Scorer):
    """Mean reward of the greedy answers by the suite's reward model (`reward_model:`). It is the
    one that the policies are trained with; if no policy needs one, it is trained for this scorer.

    The model reads prompt and answer in the form that it was trained on. An answer that was cut at
    the length limit is read without an end-of-sequence token. If the two are longer than the reward
    model's context, the first tokens of the prompt are left out, and the report says for how many
    answers. A policy can learn to please this model and nobody else (Gao et al., 2023,
    arXiv:2210.10760): compare the reward with win_rate, and measure both on prompts that nothing
    was trained on. Rewards have no unit, and those of two reward models are not compared.
    """

    VERSION = 4
    metrics = {"reward": Metric()}

    batch_tokens: int = Field(8192, gt=0)
    """Tokens of a batch, padding included."""

    _cut: tuple[int, int, int | None] = PrivateAttr(default=(0, 0, None))
    """How many answers were cut with their prompts, of how many, and the context's tokens."""

    def shows(self) -> str:
        return "reward"

    def asks(self, of: Subject) -> Mapping[str, Asked]:
        return {"answers": of.answers(), "rows": of.rows(), "reward_model": of.reward_model()}

    def score_job(self, job: ScoreJob) -> list[dict[str, Any]]:
        judge, rows, answers = job.model("reward_model"), job.rows(), job.answers()
        model, tokenizer = judge.model, judge.tokenizer
        ends = end_tokens(model, tokenizer, chats=turns_of(rows[0]) is not None)
        sequences = [
            answered_ids(
                tokenizer, row, _written(tokenizer, row, p), ends, cut=p.finish == "length"
            )
            for row, p in zip(rows, answers, strict=True)
        ]
        room = context_of(model)
        long = [i for i, ids in enumerate(sequences) if room is not None and len(ids) > room]
        for i in long:
            sequences[i] = cut_left(tokenizer, sequences[i], int(room or 0))
        self._cut = (len(long), len(sequences), room)
        values = rewards(model, pad_token(tokenizer), sequences, self.batch_tokens, job.progress)
        names = [answer.example_id for answer in answers]
        return [{"reward": value} for value in require_all(values, names, room, "")]

    def provenance(self) -> dict[str, Any]:
        count, of, room = self._cut
        if not count:
            return {}
        note = (
            f"{count} of {of} answers are longer with their prompts than the reward model's context"
            f" of {room} tokens, and were read without the oldest tokens of the prompt"
        )
        return {"answer_notes": [note]}


def _written(tokenizer: Any, row: Mapping[str, Any], prediction: Prediction) -> str:
    """The answer as the reward model reads it: after a prompt of plain text with the spaces that it
    begins with."""
    asked = prompt_row(row)["prompt"]
    if not isinstance(asked, str):
        return prediction.text
    return after_prompt(tokenizer, asked, prediction.raw).rstrip()
