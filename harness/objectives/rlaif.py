"""Reinforcement learning from AI feedback."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from harness.data.preference_rule import NAMED
from harness.objectives._recipe import Recipe
from harness.objectives.base import BASE, Objective


class Rlaif(Objective):
    """Reinforcement learning from AI feedback (Lee et al., 2023, arXiv:2309.00267; Bai et al.,
    2022, arXiv:2212.08073): answers are sampled from the policy, an AI labeller compares every two
    answers to a prompt, a reward model is trained on these labels alone, and PPO goes on from the
    policy against it. With `then: dpo` the labels are trained on directly.

    Layout: anything with a prompt; only the prompt is read, but preferences that the rows
    (validation rows, where the entry has any) hold are labelled too, by a stage of its own, for the
    labels' agreement with them. Start: an SFT, whose answers are sampled. Its stages are sft,
    sample, label, reward and ppo (or dpo); each takes its fields where it stands by its own name
    (`ppo.kl_coef`, `dpo.beta`, `sft.learning_rate`, `reward_model:` but for its rows), so that
    cells which differ in ppo alone share all before it; `start` and `data` are those given here.
    Each policy and seed has labels and a reward model of its own.
    """

    VERSION = 1
    paper = "arXiv:2309.00267"
    layouts = ("prompt", "prompt_completion", "messages", "preference", "ranked", "unpaired")
    predictable = False

    then: Literal["ppo", "dpo"] = "ppo"
    """What the labels are for: a reward model and then PPO, or DPO on them."""
    labeller: Any = "reward"
    """Who compares the answers: `reward`, `{judge: {model: NAME}}`, `{endpoint: {base_url: ...,
    model: ...}}` (`harness list labellers`)."""
    samples: int = Field(4, ge=2)
    """Answers sampled to each prompt; every two of them are compared."""
    prompts: int | None = Field(None, gt=0)
    """Sample for so many prompts only, the first ones; null: for all."""
    temperature: float = Field(1.0, gt=0)
    """Logits are divided by it, in sampling."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the likeliest tokens of this much probability."""
    max_new_tokens: int = Field(128, gt=0)
    """Tokens of a sampled answer, its end-of-sequence token included."""
    batch_tokens: int = Field(16384, gt=0)
    """Padded tokens in one forward pass of sampling."""
    unfinished: Literal["drop", "keep"] = "drop"
    """What happens to answers that were cut at max_new_tokens; counted. Trained on, they would
    teach to end there."""
    tie: float = Field(0.0, ge=0, lt=0.5)
    """Neither answer is better where the labeller's probability is within this of a half."""
    check: int = Field(200, ge=0)
    """Of the preferences that the rows hold, so many are labelled for the agreement; 0: none."""
    truth: str | None = Field(None, pattern=NAMED, examples=["FILE.py:FUNCTION"])
    """`FILE.py:FUNCTION` of a rule that knows any two answers, as the scorer `win_rate` names one:
    FUNCTION(row, one, other) is above 0 where the first is better, below 0 for the other, 0 for a
    tie, None where it does not know. The labels' agreement with it is reported, and nothing is
    trained on it. It is Python that runs. It is asked anew when the file or one beside it that it
    imports changes; a data file that it reads is not looked at, so change the rule with it."""

    @field_validator("start")
    @classmethod
    def _has_a_policy(cls, value: str | None) -> str | None:
        if value == BASE:
            raise ValueError("rlaif samples answers of a policy that was trained: start from sft")
        return value

    def runs(self) -> tuple[str, ...]:
        return (
            () if self.truth is None else (f"{self.truth}, Python that is asked for every label",)
        )

    def recipe(self, r: Recipe) -> Any:
        policy = r.start(self, "sft")
        samples = r.sample(
            policy, samples=self.samples, prompts=self.prompts, temperature=self.temperature,
            top_p=self.top_p, max_new_tokens=self.max_new_tokens, batch_tokens=self.batch_tokens,
        )  # fmt: skip
        labels = r.label(
            samples, by=self.labeller, check=self.check, truth=self.truth,
            unfinished=self.unfinished, tie=self.tie,
        )  # fmt: skip
        if self.then == "dpo":
            return r.train("dpo", start=policy, rows=labels)
        return r.train("ppo", start=policy, reward=r.model("reward", rows=labels))

    def steps(self, rows: int) -> int:
        """None of its own: the objective that it ends in has them."""
        return 0
