"""The contract of an objective: what is trained, in which steps, and what it asks of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from harness.core.component import Component, NotHashed
from harness.objectives._job import Evidence, TrainJob, TrainResult
from harness.objectives._recipe import Recipe

__all__ = ["BASE", "Evidence", "Objective", "TrainJob", "TrainResult"]

BASE = "base"
"""The start of what starts from no other training: the model as it is."""


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
