"""Reward models from preferences."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from harness.objectives._recipe import Recipe
from harness.objectives._trainer import TrainerObjective


class Reward(TrainerObjective):
    """A reward model: one number a sequence, trained so that the better answer of a pair gets the
    higher one (Ouyang et al., 2022, arXiv:2203.02155, equation 1), through TRL's RewardTrainer.

    Layout: `preference` (prompt, chosen, rejected; chosen_score and rejected_score give a margin)
    or `ranked` (prompt, responses, and ranks or scores with ties); `dimension` may name in what an
    answer is better. All pairs of one prompt stay in one batch and weigh as one, and an answer is
    read once however many pairs it stands in. Start: an SFT, its head replaced by a score.
    The record tells the accuracy on held-out pairs (by dimension too), how well differences say
    preference rates, and how far the reward follows length.
    """

    VERSION = 2
    impl = "harness.objectives._trl.reward_training:train"
    batches = "harness.objectives._trl.reward_training:batches"
    marked = "the tokens that rewards are read at"
    trainer_config = "trl.trainer.reward_config:RewardConfig"
    paper = "arXiv:2203.02155"
    layouts = ("preference", "ranked")
    head = "score"
    also_train = ("score",)
    measures = True
    predictable = False

    learning_rate: float = Field(1e-5, gt=0)
    """Peak learning rate; an adapter usually wants ten times that of full fine-tuning."""
    per_device_train_batch_size: int = Field(8, gt=0)
    """Prompts in one forward pass, each with all its pairs."""
    overlong: Literal["drop", "error"] = "drop"  # type: ignore[assignment]
    """What happens to pairs with a side over max_length; counted in the record."""
    train_sampling_strategy: Literal["random", "sequential"] = "random"  # type: ignore[assignment]
    """Order of the prompts."""
    margin_scale: float = Field(1.0, ge=0)
    """A difference of the data's scores times this is the margin by which rewards should differ
    (Touvron et al., 2023, arXiv:2307.09288, equation 2); 0: none."""
    center_rewards_coefficient: float | None = Field(None, ge=0)
    """Pulls rewards towards a mean of 0 (Eisenstein et al., 2023, arXiv:2312.09244)."""
    dimension_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Dimension -> weight of its pairs, 0 for none; 1 where it is not named."""
    score_range: tuple[float, float] | None = None
    """Least and greatest score the data may have."""
    unusable: Literal["drop", "error"] = "drop"
    """What happens to equal or empty answers and wrong scores; counted in the record."""
    held_out: float = Field(0.1, ge=0, lt=1)
    """Share of the prompts kept from training to measure on, where there are no validation rows."""
    disable_dropout: bool = True
    """Train without dropout, as in TRL."""

    def recipe(self, r: Recipe) -> Any:
        return r.train(self, start=r.start(self, "sft"))
