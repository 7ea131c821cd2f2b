"""Direct preference optimisation and its relatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from harness.objectives._recipe import Recipe
from harness.objectives._trainer import TrainerObjective

Loss = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
_ARGS = frozenset(["lr_scheduler_kwargs", "optim_args", "optim_target_modules"])
"""Arguments of the trainer that reach no forward pass."""


class Dpo(TrainerObjective):
    """Direct preference optimisation (Rafailov et al., 2023, arXiv:2305.18290), through TRL's
    DPOTrainer; `loss_type: ipo` is IPO (Azar et al., 2023, arXiv:2310.12036), and TRL's other
    losses go by their names there.

    Layout: `preference` (prompt, chosen, rejected), or `ranked`, of which every pair without a tie
    is used. Start: an SFT; the reference is that same checkpoint, so that the first loss is ln 2.
    Its log-probabilities are computed once, without dropout, and shared by all that starts there.
    """

    VERSION = 3
    impl = "harness.objectives._trl.dpo:train"
    trains_adapted_head = False
    batches = "harness.objectives._trl.dpo:batches"
    reference = "harness.objectives._trl.dpo:reference"
    trainer_config = "trl.trainer.dpo_config:DPOConfig"
    paper = "arXiv:2305.18290"
    layouts = ("preference", "ranked")
    predictable = False

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; an adapter usually wants ten times that of full fine-tuning."""
    beta: float = Field(0.1, gt=0)
    """Weight of staying near the reference; IPO's tau."""
    loss_type: Loss | list[Loss] = "sigmoid"
    """The loss, or several that are added."""
    loss_weights: list[float] | None = None
    """One weight for each of several losses; default: 1."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of flipped labels that `robust` and `exo_pair` assume."""
    f_divergence_type: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = (
        "reverse_kl"
    )
    """The divergence from the reference (Wang et al., 2023, arXiv:2309.16240)."""
    f_alpha_divergence_coef: float = 0.5
    """Alpha of `alpha_divergence`."""
    discopop_tau: float = Field(0.05, gt=0)
    """Temperature of `discopop`."""
    ld_alpha: float | None = Field(None, ge=0, le=1)
    """Weight of the tokens by which one answer is longer (LD-DPO); null: as the others."""
    use_weighting: bool = False
    """Weigh pairs by the policy's own probability of them (WPO)."""
    share_reference: bool = True
    """Compute the reference's log-probabilities of all rows once, in a stage that every training
    from this checkpoint on these rows shares; false: TRL computes them in each training, which
    costs less where its steps see a small part of the rows."""
    precompute_ref_log_probs: bool = False
    """Have TRL compute them before this training, for it alone."""
    unusable: Literal["drop", "error"] = "drop"
    """What happens to pairs of equal or empty answers; counted in the record."""
    disable_dropout: bool = True
    """Train without dropout, as in TRL."""

    def recipe(self, r: Recipe) -> Any:
        return r.train(self, start=r.start(self, "sft"), reference=self._reference_fields())

    def _reference_fields(self) -> Mapping[str, Any] | None:
        """The fields that the reference's log-probabilities depend on. None where TRL computes them
        in each training: where that is asked for, and with other arguments of its trainer, which
        may compute otherwise, or move the reference (`sync_ref_model`).

        Every loss and divergence of TRL's needs of the reference one number an answer, the sum over
        its tokens (ipo and sigmoid_norm divide ratios by the answers' own lengths, aot sorts sums).
        Under `ld_alpha` that sum is weighted by the lengths of the pair.
        """
        if not self.share_reference or self.precompute_ref_log_probs or set(self.args) - _ARGS:
            return None
        names = ("max_length", "overlong", "unusable", "ld_alpha")
        return {name: getattr(self, name) for name in names}
