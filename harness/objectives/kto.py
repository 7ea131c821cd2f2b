"""Kahneman-Tversky optimisation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.objectives._recipe import Recipe
from harness.objectives._trainer import TrainerObjective


class Kto(TrainerObjective):
    """Kahneman-Tversky optimisation (Ethayarajh et al., 2024, arXiv:2402.01306) from thumbs up and
    down, through TRL's KTOTrainer.

    Layout: `unpaired` (prompt, completion, label: true where it is wanted). Start: an SFT; the
    reference is that same checkpoint. The KL of an optimizer step's batch is estimated on its own
    prompts with one another's answers, so that rows are shuffled once and batches then stay.
    """

    # No shared reference, as dpo has it: the KL is of each prompt with the answer before it in its
    # batch, so that the reference's figures change with the batch size and the shuffle's seed, and
    # TRL takes all of them as given or none.
    VERSION = 2
    impl = "harness.objectives._trl.kto:train"
    trains_adapted_head = False
    batches = "harness.objectives._trl.kto:batches"
    trainer_config = "trl.trainer.kto_config:KTOConfig"
    paper = "arXiv:2402.01306"
    layouts = ("unpaired",)
    predictable = False

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; an adapter usually wants ten times that of full fine-tuning."""
    per_device_train_batch_size: int = Field(8, gt=1)
    """Rows in one forward pass; the KL needs at least two."""
    train_sampling_strategy: Literal["sequential"] = "sequential"  # type: ignore[assignment]
    """Batches stay as they were made."""
    shuffle: bool = True
    """Shuffle the rows once, before batches are made."""
    beta: float = Field(0.1, gt=0)
    """Weight of staying near the reference."""
    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"
    """The loss, as in TRL."""
    desirable_weight: float = Field(1.0, ge=0)
    """Weight of wanted answers; with n_w wanted and n_u unwanted rows the paper wants
    desirable_weight * n_w / (undesirable_weight * n_u) between 1 and 4/3 (equation 8)."""
    undesirable_weight: float = Field(1.0, ge=0)
    """Weight of unwanted answers."""
    precompute_ref_log_probs: bool = False
    """Compute the reference's log-probabilities before training, and keep no reference then."""
    unusable: Literal["drop", "error"] = "drop"
    """What happens to rows with an empty answer; counted in the record."""
    disable_dropout: bool = True
    """Train without dropout, as in TRL."""

    def recipe(self, r: Recipe) -> Any:
        return r.train(self, start=r.start(self, "sft"))
