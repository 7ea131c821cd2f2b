"""An objective behind a trainer of transformers: the arguments that all of them share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.core.fields import Steps
from harness.objectives._trl.arguments import fields_of, require_fields, require_optimizer
from harness.objectives._trl.permitted import about_argument, require_permitted
from harness.objectives.base import Objective

SchedulerType = Literal[
    "linear", "cosine", "cosine_with_restarts", "cosine_with_min_lr", "polynomial", "constant",
    "constant_with_warmup", "inverse_sqrt", "warmup_stable_decay",
]  # fmt: skip
_OVER_SHARES = ("linear", "cosine", "constant", "constant_with_warmup", "polynomial")
"""Schedules that depend on the share of the training done alone."""
_ADAMW = ("adamw_torch", "adamw_torch_fused")
_REHEARSED = frozenset({"lr_scheduler_kwargs", "shuffle_dataset", "truncation_mode"})
"""Arguments of a trainer that show in its batches and learning rates alone."""


class TrainerObjective(Objective):
    """Arguments of transformers' Trainer by their own names: each stated, none left to chance."""

    trainer_config: ClassVar[str] = ""
    """`module:Class` of the arguments that the trainer behind it takes; empty: not to be told."""
    scales_loss = True
    keeps: ClassVar[tuple[str, ...]] = ("last",)
    """Checkpoint policies; `best` asks that its trainer is given the job's validation rows."""

    learning_rate: float = Field(2e-5, gt=0)
    """Peak learning rate."""
    num_train_epochs: float = Field(1.0, gt=0)
    """Passes over the training rows, where max_steps is not given."""
    max_steps: Steps = -1
    """Optimizer steps; -1: as many as the epochs take."""
    max_tokens: int | None = Field(None, gt=0)
    """Stop at the step where the model has seen so many tokens (padding excluded); the schedule
    follows the share of them seen."""
    max_seconds: float | None = Field(None, gt=0)
    """Stop at the step where training has taken so long (validation and saving excluded); the
    schedule follows the share of it spent. Such a run does not repeat bit for bit."""
    keep: Literal["last", "best"] = "last"
    """Which checkpoint is kept; `best` has the lowest loss on the data entry's validation rows, a
    mean over rows of their batches' losses, as transformers computes it."""
    eval_steps: int | None = Field(None, gt=0)
    """With `keep: best`: validate every so many steps, and at the last."""
    per_device_train_batch_size: int = Field(8, gt=0)
    """Rows in one forward pass."""
    gradient_accumulation_steps: int = Field(1, gt=0)
    """Forward passes for one optimizer step."""
    max_length: int = Field(1024, gt=1)
    """Tokens of a row, prompt and answer together."""
    overlong: Literal["drop", "truncate", "error"] = "drop"
    """What happens to rows over max_length; counted in the record in each case."""
    lr_scheduler_type: SchedulerType = "linear"
    """As in transformers; what a schedule takes beside goes into args.lr_scheduler_kwargs."""
    warmup_ratio: float = Field(0.0, ge=0, lt=1)
    """Share of the steps over which the learning rate rises to its peak."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Gradients are clipped to this norm; 0 for no clipping."""
    optim: str = "adamw_torch"
    """As in transformers: `adamw_torch`, `adamw_torch_fused`, `adafactor`, `sgd` ..."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of AdamW's first moment."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of AdamW's second moment."""
    adam_epsilon: float = Field(1e-8, ge=0)
    """AdamW's epsilon."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] = "random"
    """Order of the rows; `group_by_length` wastes less on padding."""
    args: dict[str, Any] = {}
    """Any other argument of the trainer that changes how it trains, passed on as it is. What writes
    outside the store, reaches the network, takes a secret or has a field of its own is refused."""

    @classmethod
    def about_key(cls, key: str) -> str:
        """An argument of the trainer that has no field here."""
        if not cls.trainer_config or key not in fields_of(cls.trainer_config):
            return ""
        return about_argument(key)

    @field_validator("optim")
    @classmethod
    def _known_optimizer(cls, value: str) -> str:
        require_optimizer(value)
        return value

    @field_validator("args")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in sorted(set(cls.model_fields) & set(value)):
            raise ValueError(f"{name} is an option of its own; write it beside `args`")
        if value and cls.trainer_config:
            require_fields(cls.trainer_config, value)
        require_permitted(value, known=bool(cls.trainer_config))
        return value

    @model_validator(mode="after")
    def _policies_fit(self) -> Self:
        limits = {"max_steps": self.max_steps if self.max_steps > 0 else None,
                  "max_tokens": self.max_tokens, "max_seconds": self.max_seconds}  # fmt: skip
        ends = [name for name, limit in limits.items() if limit is not None]
        if len(ends) > 1:
            raise ValueError(f"{' and '.join(ends)} are given; one of them ends the training")
        if ends not in ([], ["max_steps"]) and self.lr_scheduler_type not in _OVER_SHARES:
            raise ValueError(
                f"{ends[0]} needs a schedule over a share of the training"
                f" ({', '.join(_OVER_SHARES)}), not {self.lr_scheduler_type}"
            )
        if self.keep not in self.keeps:
            raise ValueError(f"keep: {self.keep} is not offered by {self.name}; keep: last is")
        if (self.keep == "best") != (self.eval_steps is not None):
            raise ValueError("keep: best and eval_steps go together: give both, or neither")
        return self

    def identity(self) -> dict[str, Any]:
        """The version also tells how the steps of a part of an epoch are counted, where a warmup is
        a share of them: they were once rounded to the nearest number, which could make it a step
        shorter. A worker builds the objective again from its identity, and reads no version."""
        by_epochs = self.max_steps < 1 and self.max_tokens is None and self.max_seconds is None
        in_parts = by_epochs and not self.num_train_epochs.is_integer()
        identity = super().identity()
        if in_parts and self.warmup_ratio > 0:
            identity["version"] = f"{self.VERSION}, steps rounded up"
        return identity

    def cut(self) -> slice:
        if self.overlong != "truncate":
            return slice(None)
        from_end = self.args.get("truncation_mode") == "keep_end"
        return slice(-self.max_length, None) if from_end else slice(self.max_length)

    @property
    def validates(self) -> bool:
        return self.keep == "best"

    def refuse_elsewhere(self) -> str | None:
        ends = [name for name in ("max_tokens", "max_seconds") if getattr(self, name) is not None]
        unshown = sorted(self.args.keys() - _REHEARSED)
        refused = {
            f"{', '.join(ends)} would end them by what they take here": bool(ends),
            "keep: best needs losses on validation rows": self.keep != "last",
            f"optim: {self.optim} is not the AdamW that it has": self.optim not in _ADAMW,
            f"args: {', '.join(unshown)} would not reach it": bool(unshown),
        }
        reasons = [reason for reason, applies in refused.items() if applies]
        return super().refuse_elsewhere() or (reasons[0] if reasons else None)

    def needs(self) -> Mapping[str, str]:
        if self.gradient_checkpointing:
            return {"gradient_checkpointing": "gradient_checkpointing is on"}
        return {}

    def steps(self, rows: int) -> int:
        if self.max_steps > 0:
            return self.max_steps
        batches = -(-rows // self.per_device_train_batch_size)
        per_epoch = -(-batches // self.gradient_accumulation_steps)
        return math.ceil(per_epoch * self.num_train_epochs)  # as transformers' Trainer
