"""Proximal policy optimisation against a reward model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from harness.core.fields import Steps
from harness.objectives._recipe import Recipe
from harness.objectives.base import Objective


class Ppo(Objective):
    """PPO as InstructGPT does it: answers sampled from the policy, scored by a reward model, with a
    penalty a token for leaving the starting policy (Ouyang et al., 2022, arXiv:2203.02155; Schulman
    et al., 2017, arXiv:1707.06347; Ziegler et al., 2019, arXiv:1909.08593).

    Layout: anything with a prompt (`prompt`, `prompt_completion`, `messages`, `preference`,
    `unpaired`); only the prompt is read. Start: an SFT for the policy, which is also the
    reference, and a reward model. The trainer is the harness's own; one step is one batch of
    answers, scored, and the gradient steps on it. Dropout is off.
    """

    VERSION = 2
    impl = "harness.objectives._ppo.trainer:train"
    batches = "harness.objectives._trl.shown:prompts"
    marked = ""
    paper = "arXiv:2203.02155"
    layouts = ("prompt", "prompt_completion", "messages", "preference", "unpaired")
    keeps_reference = True
    reads_prompts = True
    trackers = ("tensorboard",)
    predictable = False

    learning_rate: float = Field(1e-5, gt=0)
    """Peak learning rate of the policy; an adapter usually wants ten times that."""
    value_learning_rate: float | None = Field(None, gt=0)
    """That of the value model or head; default: the policy's."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    """How the rates go on after the warm-up: as they are, or to 0."""
    warmup_ratio: float = Field(0.0, ge=0, lt=1)
    """Share of the steps over which the rates rise to their peak."""
    num_train_epochs: float = Field(1.0, gt=0)
    """Passes over the prompts, where max_steps is not given."""
    max_steps: Steps = -1
    """Batches of answers; -1: as many as the epochs take."""
    rollout_batch_size: int = Field(64, gt=0)
    """Answers sampled for one step (InstructGPT: 512)."""
    minibatch_size: int = Field(16, gt=0)
    """Answers behind one gradient step (InstructGPT: 64)."""
    ppo_epochs: int = Field(4, gt=0)
    """Passes over one batch of answers (InstructGPT: 1; TRL and Stiennon et al.: 4)."""
    max_length: int = Field(1024, gt=1)
    """Tokens of a prompt and its answer together."""
    max_new_tokens: int = Field(128, gt=0)
    """Tokens of an answer, its end-of-sequence token included."""
    overlong: Literal["drop", "error"] = "drop"
    """What happens to prompts that leave no room for max_new_tokens; counted in the record."""
    batch_tokens: int = Field(16384, gt=0)
    """Padded tokens in one forward pass, fewer where their logits would take over 1 GiB; changes
    memory and rounding, not the algorithm."""
    temperature: float = Field(1.0, gt=0)
    """Logits are divided by it, in sampling and in every log-probability."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the likeliest tokens of this much probability; under 1, the ratios are not
    those of the distribution sampled from."""
    kl_coef: float = Field(0.02, ge=0)
    """Beta, the weight of the KL to the reference (InstructGPT: 0.02)."""
    kl_control: Literal["fixed", "adaptive"] = "fixed"
    """Keep beta, or move it towards kl_target (Ziegler et al., section 2.2)."""
    kl_target: float = Field(6.0, gt=0)
    """Wanted KL of a whole answer, in nats, for adaptive control."""
    kl_gain: float = Field(0.1, gt=0)
    """How fast adaptive control moves beta (Ziegler et al.: 0.1)."""
    kl_estimator: Literal["k1", "k3"] = "k1"
    """Estimate of the KL a token: the log-ratio, or one that is never negative."""
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount (InstructGPT: none)."""
    lam: float = Field(0.95, ge=0, le=1)
    """GAE's lambda."""
    clip_range: float = Field(0.2, gt=0)
    """Epsilon of the clipped ratio (InstructGPT: 0.2)."""
    value_clip_range: float | None = Field(0.2, gt=0)
    """How far a value may move from the rollout's before its gradient stops; null: anywhere."""
    value: Literal["reward_copy", "head"] = "reward_copy"
    """A model of its own started from the reward model, as in InstructGPT, or a head of zeros on
    the policy's trunk."""
    value_coef: float = Field(0.1, ge=0)
    """Weight of the value loss."""
    entropy_coef: float = Field(0.0, ge=0)
    """Weight of the entropy bonus."""
    whiten_rewards: bool = False
    """Give rewards a variance of 1 over a batch, their mean kept."""
    whiten_advantages: bool = True
    """Give advantages mean 0 and variance 1 over a batch."""
    missing_eos_penalty: float | None = Field(None, ge=0)
    """Taken from the score of an answer that was cut at max_new_tokens."""
    stop_kl: float | None = Field(None, gt=0)
    """End a step's gradient steps once the policy is this many nats a token from the rollout's."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Gradients of policy and of value are each clipped to this norm; 0 for no clipping."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of Adam's first moment."""
    adam_beta2: float = Field(0.95, ge=0, lt=1)
    """Decay of Adam's second moment (InstructGPT: 0.95)."""
    adam_epsilon: float = Field(1e-8, ge=0)
    """Adam's epsilon."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of the policy."""
    collapse_kl: float = Field(200.0, gt=0)
    """A KL of whole answers beyond this, in nats, is a collapse."""
    collapse_entropy: float = Field(1e-4, ge=0)
    """A mean entropy a token under this, in nats, is a collapse."""
    collapse_patience: int = Field(3, gt=0)
    """Steps in a row that must show it before training stops."""

    def recipe(self, r: Recipe) -> Any:
        return r.train(self, start=r.start(self, "sft"), reward=r.model("reward"))

    def steps(self, rows: int) -> int:
        if self.max_steps > 0:
            return self.max_steps
        return max(1, round(rows * self.num_train_epochs / self.rollout_batch_size))

    def needs_beside(self, role: str) -> Mapping[str, str]:
        if self.value == "reward_copy":
            return {"merge": "value: reward_copy trains a plain copy of the reward model"}
        return {}
