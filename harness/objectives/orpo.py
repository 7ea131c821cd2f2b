"""Odds-ratio preference optimisation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.objectives._trainer import TrainerObjective


class Orpo(TrainerObjective):
    """Odds-ratio preference optimisation (Hong et al., 2024, arXiv:2403.07691), through TRL's
    ORPOTrainer: the likelihood of the better answer and the odds of it against the worse, in one
    stage and without a reference.

    Layout: `preference` (prompt, chosen, rejected), or `ranked`, of which every pair without a tie
    is used. Start: the base. As in the authors' code, the likelihood is of prompt and answer; it is
    a mean over the tokens of all forward passes of an optimizer step.
    """

    VERSION = 2
    impl = "harness.objectives._trl.orpo:train"
    batches = "harness.objectives._trl.orpo:batches"
    trainer_config = "trl.experimental.orpo.orpo_config:ORPOConfig"
    paper = "arXiv:2403.07691"
    layouts = ("preference", "ranked")
    predictable = False

    learning_rate: float = Field(8e-6, gt=0)
    """Peak learning rate (the paper's); an adapter usually wants ten times that."""
    beta: float = Field(0.1, ge=0)
    """Weight of the odds ratio; the paper's lambda."""
    overlong: Literal["drop", "error"] = "drop"  # type: ignore[assignment]
    """What happens to rows with a side over max_length; counted in the record."""
    unusable: Literal["drop", "error"] = "drop"
    """What happens to pairs of equal or empty answers; counted in the record."""
    disable_dropout: bool = True
    """Train without dropout, as in TRL."""
