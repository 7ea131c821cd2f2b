"""What GRPO and RLOO share: answers sampled in groups, rewarded by a model or by functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.core.errors import unknown
from harness.objectives._recipe import Recipe
from harness.objectives._reward_functions import FUNCTIONS
from harness.objectives._trainer import TrainerObjective


class Online(TrainerObjective):
    """Fields of an objective that samples `num_generations` answers to each prompt."""

    impl = "harness.objectives._trl.online_trainer:train"
    trains_adapted_head = False
    batches = "harness.objectives._trl.shown:prompts"
    marked = ""
    layouts = ("prompt", "prompt_completion", "messages", "preference", "ranked", "unpaired")
    may_lack_signal = True
    predictable = False

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; an adapter usually wants ten times that of full fine-tuning."""
    per_device_train_batch_size: int = Field(8, gt=0)
    """Answers in one forward pass."""
    reward_functions: list[str] = []
    """Instead of a reward model: functions of an answer and its row, whose values are added."""
    num_generations: int = Field(8, gt=1)
    """Answers sampled to each prompt."""
    steps_per_generation: int | None = Field(None, gt=0)
    """Forward passes that one batch of answers is split over; default: those of one optimizer
    step. Checkpoints are written only where such a batch ends."""
    num_iterations: int = Field(1, gt=0)
    """Times that each batch of answers is trained on."""
    max_new_tokens: int = Field(128, gt=0)
    """Tokens of an answer, its end-of-sequence token included."""
    overlong: Literal["drop", "error"] = "drop"  # type: ignore[assignment]
    """What happens to prompts that leave no room for max_new_tokens within max_length; counted."""
    train_sampling_strategy: Literal["random", "sequential"] = "random"  # type: ignore[assignment]
    """Order of the prompts."""
    temperature: float = Field(1.0, gt=0)
    """Logits are divided by it, in sampling and in every log-probability."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the likeliest tokens of this much probability."""
    epsilon: float = Field(0.2, gt=0)
    """How far the ratio of a token's (RLOO: an answer's) probabilities may go before it is cut."""
    mask_truncated_completions: bool = False
    """Leave answers that were cut at max_new_tokens out of the loss."""
    disable_dropout: bool = True
    """Sample and train without dropout, so that the first ratio is 1."""

    def recipe(self, r: Recipe) -> Any:
        models = {} if self.reward_functions else {"reward": r.model("reward")}
        return r.train(self, start=r.start(self, "sft"), **models)

    def needs(self) -> Mapping[str, str]:
        reason = f"{self.name} has TRL keep a copy of the adapter as its reference"
        return {**super().needs(), "copy": reason}

    @field_validator("reward_functions")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in FUNCTIONS:
                raise ValueError(unknown("reward function", name, FUNCTIONS))
        return value

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        answers = self.per_device_train_batch_size * self.passes
        if answers % self.num_generations:
            raise ValueError(
                f"a batch of {answers} answers (per_device_train_batch_size times"
                f" steps_per_generation) holds no whole groups of num_generations"
                f" {self.num_generations}; make it a multiple"
            )
        return self

    @property
    def passes(self) -> int:
        """Forward passes over one batch of answers."""
        return self.steps_per_generation or self.gradient_accumulation_steps

    @property
    def prompts_a_batch(self) -> int:
        """Different prompts in one batch of answers."""
        return self.per_device_train_batch_size * self.passes // self.num_generations

    @property
    def steps_a_batch(self) -> int:
        """Optimizer steps after which a batch of answers, and a step, end together."""
        passes, each = self.passes * self.num_iterations, self.gradient_accumulation_steps
        return math.lcm(passes, each) // each

    def steps(self, rows: int) -> int:
        if self.max_steps > 0:
            return self.max_steps
        passes = rows // self.prompts_a_batch * self.passes * self.num_iterations
        per_epoch = max(1, -(-passes // self.gradient_accumulation_steps))
        return math.ceil(self.num_train_epochs * per_epoch)
