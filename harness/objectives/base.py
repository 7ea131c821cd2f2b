"""The contract of an objective, and the arguments that every trainer shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.core.component import Component, NotHashed
from harness.core.fields import Steps
from harness.data.row import Row
from harness.objectives._recipe import Recipe
from harness.objectives._trl.arguments import require_fields, require_optimizer
from harness.objectives._trl.permitted import require_permitted

BASE = "base"
"""The start of what starts from no other training: the model as it is."""
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup", "polynomial")
"""Schedules that depend on the share of the training done alone."""

_ADAMW = ("adamw_torch", "adamw_torch_fused")
REHEARSED = frozenset({"lr_scheduler_kwargs", "shuffle_dataset", "truncation_mode"})
"""Arguments of a trainer that show in its batches and learning rates alone."""


@dataclass
class TrainJob:
    """What the train stage hands to an objective: everything resolved, nothing to look up.

    Attributes:
        model: trainable, attached or resumed by the method.
        rows: training rows in one layout, already short enough.
        checkpoints: folder for this stage's own checkpoints; an earlier run's may lie there.
        step_log: JSON lines, one a step, that survives a kill.
        progress: called as progress(done, total, note).
        note: told what a person should know at once.
        reference_logits: the starting policy, frozen: reference_logits(input_ids, attention_mask)
            -> logits, (batch, tokens, vocabulary). PPO needs it; a method's add_reference makes it.
        reward_model: scores a prompt with its answer: a sequence classifier of one label (with the
            policy's vocabulary), or reward_model(prompts, answers) -> numbers, of token ids each.
        reward_tokenizer: the reward model's; None where it is known to be the policy's.
        value_model: makes a plain copy of the reward model, in float32; None: copy it.
        reference_file: log-probabilities of the starting policy, as `Objective.reference` wrote
            them; None: the trainer computes them itself.
        gates: a trainable tensor -> another, through which its gradient passes: none can while that
            is all zeros, as LoRA's B is at the start.
    """

    model: Any
    tokenizer: Any
    rows: list[Row]
    validation: list[Row]
    checkpoints: Path
    step_log: Path
    seed: int
    data_seed: int
    dtype: str
    device: str
    checkpoint_seconds: float
    report_to: list[str]
    label: str
    progress: Callable[[int, int, str], None]
    more_rows: Mapping[str, list[Row]] = field(default_factory=dict)
    """Role -> rows of the other data entries that `Objective.more_data` names."""
    reference_logits: Callable[[Any, Any], Any] | None = None
    reward_model: Any = None
    reward_tokenizer: Any = None
    value_model: Callable[[], Any] | None = None
    reference_file: Path | None = None
    gates: Mapping[str, str] = field(default_factory=dict)
    note: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Evidence:
    """What the first steps showed; the audit holds it against the rows and the method.

    Attributes:
        batches: what entered the model: input_ids, attention_mask and labels, as lists of rows.
        without_gradient: trainable tensors that had no gradient but zero, and could have had one.
        behind_gates: those that could have none yet, as the job's `gates` say.
        signal: whether any tensor had one; without it (all rewards equal, say) nothing can be told.
        reached: name -> the step (from 1) that the first gradient came before.
        dues: name -> steps, and which of a tensor's places, as `_movement.spread` chooses them,
            each moves where all is float32.
        untold: tensors of which that cannot be told, as another kind of optimizer moves them.
    """

    batches: tuple[Mapping[str, list[list[int]]], ...] = ()
    without_gradient: tuple[str, ...] = ()
    behind_gates: tuple[str, ...] = ()
    signal: bool = False
    reached: Mapping[str, int] = field(default_factory=dict)
    dues: Mapping[str, Sequence[tuple[int, Any]]] = field(default_factory=dict)
    untold: frozenset[str] = frozenset()

    def as_of(self, step: int) -> Evidence:
        """What can be expected of the weights after a step, which may be an early one: what the
        steps up to it showed. Whether gradients arrive is told by all."""
        later = [name for name, first in self.reached.items() if first > step]
        dues = {n: [due for due in own if due[0] <= step] for n, own in self.dues.items()}
        return replace(
            self,
            behind_gates=tuple(sorted({*self.behind_gates, *later})),
            reached={name: first for name, first in self.reached.items() if first <= step},
            dues={name: own for name, own in dues.items() if own},
        )


@dataclass(frozen=True)
class TrainResult:
    """What training says of itself; the model in the job is the trained one.

    Attributes:
        tokens: tokens the model saw, padding excluded, over all epochs.
        seconds_per_step: median wall time of a step, in seconds; 0 if it was not measured.
        saved_activation_bytes: bytes autograd kept at the first step, parameters excluded; None
            where they are not known.
        earlier_seconds: of the attempts that led to the checkpoint it went on from.
        checks: findings of the objective's own for the audit: check, status, detail.
        notes: sentences that a reader of the figures must know, for the record and the report.
    """

    steps: int
    tokens: int
    seconds_per_step: float = 0.0
    saved_activation_bytes: int | None = None
    optimizer_bytes: int | None = None
    gradient_bytes: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None
    earlier_seconds: float = 0.0
    checks: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()


class Objective(Component):
    """What is optimised. An objective knows no method."""

    axis = "objective"
    paper: ClassVar[str] = ""
    may_lack_signal: ClassVar[bool] = False
    """Whether steps without any gradient are honest, as in GRPO when all rewards are equal."""
    layouts: ClassVar[tuple[str, ...]] = ()
    """Row layouts it can train on: `text`, `prompt_completion`, `messages` ..."""
    batches: ClassVar[str | None] = None
    """`module:function(objective, job) -> list of dicts`: sequences as the trainer's collator makes
    them (input_ids and labels; position_ids where documents are packed; `row`, its number, and
    `part`, its name, where a row becomes several), for `harness data`."""
    schedule: ClassVar[str | None] = None
    """`module:function(objective, job) -> harness.data.steps.Schedule`: the steps of a training
    whose loss is the mean of -log p over labels, for methods that compute it elsewhere."""
    marked: ClassVar[str] = "tokens in the loss"
    """What the labels of `batches` mark, for people; nothing where it shows prompts alone."""
    head: ClassVar[Literal["lm", "score"]] = "lm"
    """What stands on the trunk: `lm`, or `score` for one number a sequence."""
    also_train: ClassVar[tuple[str, ...]] = ()
    """Modules trained in full beside what the method trains."""
    trains_adapted_head: ClassVar[bool] = True
    """Whether an adapter on the head is trained: some of TRL's trainers read the head's weight past
    it, and refuse such a model."""
    keeps_reference: ClassVar[bool] = False
    """Whether it is given the starting policy (TRL's trainers keep a copy of it themselves)."""
    reference: ClassVar[str | None] = None
    """`module:function(objective, job, path) -> metrics`: writes the log-probabilities that the
    starting policy gives the job's rows, in a stage that trainings from one start share."""
    reads_prompts: ClassVar[bool] = False
    """Whether it reads the prompts of its rows alone."""
    measures: ClassVar[bool] = False
    """Whether it measures on its data entry's validation rows, where there are any."""
    scales_loss: ClassVar[bool] = False
    """Whether its trainer scales the loss, without which float16 loses small gradients."""
    trackers: ClassVar[tuple[str, ...] | None] = None
    """Trackers that its trainer can report to; None: all that transformers knows."""
    predictable: ClassVar[bool] = True
    """Whether the formulas of one forward and one backward pass a row say what it costs."""

    start: Annotated[str | None, NotHashed] = None
    """Where it starts, if not where its recipe says: `base` for the model as it is, which cuts the
    recipe to its last stage, or another objective, which is then trained before it."""
    data: Annotated[str | None, NotHashed] = None
    """Data entry whose training rows it reads; default: those of its cell in the matrix."""

    def recipe(self, r: Recipe) -> Any:
        """Tells what is trained for a cell, step by step, and returns the training that ends it.

        By default that is the objective alone, on the model as it is.
        """
        return r.train(self, start=r.start(self))

    @classmethod
    def modules(cls) -> tuple[str, ...]:
        """Also the module of `reference`, which works in a stage of its own."""
        return (*super().modules(), *([cls.reference.partition(":")[0]] if cls.reference else ()))

    def needs_beside(self, role: str) -> Mapping[str, str]:
        """Traits it asks of the method of a model beside it, each with the reason."""
        return {}

    @property
    def validates(self) -> bool:
        """Whether it reads validation rows, which are then an input of the training stage."""
        return False

    def needs(self) -> Mapping[str, str]:
        """Traits it asks of a method, each with the reason a refusal gives."""
        return {}

    def answers_only(self, layout: str) -> bool | None:
        """Whether the loss is on the answers alone (every assistant turn, or the completion);
        None where rows are not told apart any more, as when they are packed."""
        return None

    def in_loss(self, layout: str) -> bool | None:
        """Whether the loss of such a row is on its answers alone (True) or on every token (False);
        None where the objective reads rows in a way of its own, such as pairs or prompts."""
        return None

    def cut(self) -> slice:
        """What is left of a row as it is trained on: all of it, where long rows are not cut."""
        return slice(None)

    def refuse_elsewhere(self) -> str | None:
        """The reason why a service cannot compute the steps of this training, as the end of a
        sentence; None where it can."""
        if self.schedule is None:
            return "this objective does not write them down as tokens and labels"
        return None

    def more_data(self) -> Mapping[str, str]:
        """Role -> data entry whose training rows it needs beside the variant's own."""
        return {}

    def refuse_layout(self, layout: str) -> str | None:
        """Why these options cannot train on rows of this layout; None when they can."""
        if layout in self.layouts:
            return None
        return f"{self.name} trains on {' or '.join(self.layouts)} rows, not on {layout}"

    def steps(self, rows: int) -> int:
        """Optimizer steps for so many rows (packing aside)."""
        raise NotImplementedError


Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "cosine_with_min_lr", "polynomial", "constant",
    "constant_with_warmup", "inverse_sqrt", "warmup_stable_decay",
]  # fmt: skip


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
    lr_scheduler_type: Schedule = "linear"
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
        given = [name for name, limit in limits.items() if limit is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; one of them ends the training")
        if given not in ([], ["max_steps"]) and self.lr_scheduler_type not in SCHEDULES:
            raise ValueError(
                f"{given[0]} needs a schedule over a share of the training"
                f" ({', '.join(SCHEDULES)}), not {self.lr_scheduler_type}"
            )
        if self.keep not in self.keeps:
            raise ValueError(f"keep: {self.keep} is not offered by {self.name}; keep: last is")
        if (self.keep == "best") != (self.eval_steps is not None):
            raise ValueError("keep: best and eval_steps go together: give both, or neither")
        return self

    def identity(self) -> dict[str, Any]:
        """Also how the steps of a part of an epoch are counted, where a warmup is a share of them:
        they were once rounded to the nearest number, which could make it a step shorter."""
        by_epochs = self.max_steps < 1 and self.max_tokens is None and self.max_seconds is None
        in_parts = by_epochs and not self.num_train_epochs.is_integer()
        counted = {"steps": "rounded up"} if in_parts and self.warmup_ratio > 0 else {}
        return {**super().identity(), **counted}

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
        own = sorted(self.args.keys() - REHEARSED)
        refused = {
            f"{', '.join(ends)} would end them by what they take here": bool(ends),
            "keep: best needs losses on validation rows": self.keep != "last",
            f"optim: {self.optim} is not the AdamW that it has": self.optim not in _ADAMW,
            f"args: {', '.join(own)} would not reach it": bool(own),
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
