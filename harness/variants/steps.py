"""The steps of a recipe, before they are stages of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.labellers.base import Labeller
from harness.objectives.base import Objective


@dataclass(frozen=True)
class Sampled:
    """Answers of a checkpoint to the prompts of a data entry's training rows.

    Attributes:
        asked_by: the objective whose recipe asks for them.
        policy: None for the model as it is.
        options: of the sample stage, but for its seed.
    """

    asked_by: Objective
    policy: Trained | None
    entry: str
    options: Mapping[str, Any]

    def reads(self) -> tuple[Step, ...]:
        """The steps before it that it reads."""
        return () if self.policy is None else (self.policy,)


@dataclass(frozen=True)
class Labelled:
    """Rows that a labeller makes of sampled answers.

    Attributes:
        options: of the label stage.
        check: how many of the preferences that the rows hold are labelled too.
        truth: `FILE.py:FUNCTION` of a rule that the labels are held against.
    """

    asked_by: Objective
    samples: Sampled
    labeller: Labeller
    options: Mapping[str, Any]
    check: int
    truth: str | None

    def reads(self) -> tuple[Step, ...]:
        """The steps before it that it reads."""
        return (self.samples,)


@dataclass(frozen=True)
class Made:
    """Rows that a stage of another kind makes, such as a kind of a plugin.

    Attributes:
        asked_by: the objective whose recipe asks for them.
        entry: data entry whose training rows it reads, if its kind reads any.
        inputs: role -> the step that it reads.
    """

    asked_by: Objective
    kind: str
    entry: str
    inputs: Mapping[str, Step]
    fields: Mapping[str, Any]

    def reads(self) -> tuple[Step, ...]:
        """The steps before it that it reads."""
        return tuple(self.inputs.values())


@dataclass(frozen=True)
class Beside:
    """A model that a training reads beside its start.

    Attributes:
        objective: what trains it; the variant's `models` hold its cell under this name.
        rows: labels that it is trained on; None where its own cell has its rows.
    """

    objective: str
    rows: Labelled | Made | None = None


@dataclass(frozen=True)
class Trained:
    """A training, and the checkpoint that it leaves.

    Attributes:
        group: what it is called, without the seed.
        entry: data entry of its training rows, or of the prompts behind its labels.
        start: the training whose checkpoint it goes on from; None: the model as it is.
        rows: labels that it trains on, in the place of the suite's rows.
        reference: fields that a shared reference depends on; None: it has none.
        models: role -> a model that it reads.
    """

    objective: Objective
    group: str
    entry: str
    start: Trained | None = None
    rows: Labelled | Made | None = None
    reference: Mapping[str, Any] | None = None
    models: Mapping[str, Beside] = field(default_factory=dict)

    def reads(self) -> tuple[Step, ...]:
        """The steps before it that it reads, models of other cells aside."""
        steps = (self.start, self.rows, *(beside.rows for beside in self.models.values()))
        return tuple(step for step in steps if step is not None)


Step = Trained | Sampled | Labelled | Made


def in_order(last: Step) -> list[Step]:
    """A step after all that it reads, each once."""
    ordered: dict[int, Step] = {}

    def add(step: Step) -> None:
        if id(step) in ordered:
            return
        for earlier in step.reads():
            add(earlier)
        ordered[id(step)] = step

    add(last)
    return list(ordered.values())
