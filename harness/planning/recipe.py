"""Training stages in a plan: the steps of a variant's recipe, and the models beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import SuiteError, unknown
from harness.executors.base import Executor
from harness.methods._service import ServiceMethod
from harness.methods.base import Method
from harness.objectives.base import Objective
from harness.planning.labels import Labels
from harness.planning.other_kinds import made_rows
from harness.planning.pairs import lacking, refusal_of
from harness.planning.precision import refuse_dtype
from harness.planning.sources import Sources
from harness.stages._models import START
from harness.stages._reference import REFERENCE
from harness.stages.fine_tuning import FineTuning
from harness.stages.reference import Reference
from harness.stages.train import Train
from harness.store.stage import Stage
from harness.suite.suite import Suite
from harness.variants.names import place_of
from harness.variants.steps import Labelled, Made, Sampled, Step, Trained, in_order
from harness.variants.variant import Cell, Variant


@dataclass(frozen=True)
class Training:
    """A training of a variant's recipe, or of a model beside it.

    Attributes:
        labelled: it reads labels, and not the suite's rows.
    """

    cell: Cell
    step: Trained
    labelled: bool

    @property
    def method(self) -> Method:
        """The cell's."""
        return self.cell.method

    @property
    def objective(self) -> Objective:
        """What is trained."""
        return self.step.objective

    @property
    def entry(self) -> str:
        """The data entry of its rows, or of the prompts behind its labels."""
        return self.step.entry

    @property
    def label(self) -> str:
        """What people call it."""
        return name_of(self.cell, self.step)


def name_of(cell: Cell, step: Trained) -> str:
    """What people call a training of a cell: the last one as the cell."""
    if step is cell.recipe:
        return cell.id
    seed = f"#{cell.seed}"
    return step.group + (seed if cell.id.endswith(seed) else "")


def trainings(variant: Variant, *, on_labels: bool = False) -> Iterator[Training]:
    """All trainings of a variant's recipe and of the models beside it, those that others read
    first.

    Args:
        on_labels: the last one reads labels that another variant's recipe gives it.
    """
    cell = variant.cell
    if cell is None:
        return
    for step in in_order(cell.recipe):
        if isinstance(step, Labelled):
            for objective in step.labeller.beside:
                yield from trainings(cell.models[objective])
        if isinstance(step, Trained):
            for beside in step.models.values():
                other = cell.models[beside.objective]
                yield from trainings(other, on_labels=beside.rows is not None)
            labelled = step.rows is not None or (on_labels and step is cell.recipe)
            yield Training(cell, step, labelled)


def steps_of(variant: Variant) -> list[Step]:
    """The steps of a variant's recipe, each after all that it reads; none where nothing is trained
    for it."""
    return [] if variant.cell is None else in_order(variant.cell.recipe)


def refuse_pairs(variant: Variant) -> None:
    """A method that lacks what an objective's options ask of it is refused, with the reason.

    Raises:
        SuiteError: for the variant's own recipe, or for a model beside it.
    """
    for training in trainings(variant):
        objective, start = training.objective, training.step.start
        origin = None if start is None else start.objective.name
        refusal = refusal_of(training.method, objective, origin)
        if refusal is not None:
            raise SuiteError(
                f"method '{training.method.name}' cannot be trained with '{objective.name}'"
                f" as set: {refusal}",
                where=f"variant {variant.id}",
                fix="change the option with `overrides:`, or leave the cell out with `exclude:`",
            )
        for role, beside in training.step.models.items():
            method = training.cell.models[beside.objective].method
            refusal = lacking(method, objective.needs_beside(role))
            if refusal is not None:
                raise SuiteError(
                    f"a {role} model trained with '{method.name}' cannot serve"
                    f" '{objective.name}' as set: {refusal}",
                    where=f"variant {variant.id}",
                    fix=f"name another method in `{role}_model:`, or change the option",
                )


class Recipes:
    """Makes the stages of variants' recipes; equal ones are one stage by their key."""

    def __init__(
        self,
        suite: Suite,
        sources: Sources,
        executor: Executor,
        lengths: Callable[[Cell, Objective, Stage], Sequence[int]],
    ) -> None:
        """lengths: the tokens of each row that a cell trains on, as far as they are measured."""
        self.suite, self.sources, self.executor = suite, sources, executor
        self._lengths = lengths
        self.labels = Labels(suite, sources, executor)

    def train(self, cell: Cell, rows: Stage | None = None) -> Stage:
        """The last stage of a cell's recipe; those before it are among its inputs.

        Args:
            rows: labels of another cell's recipe, for the last training to read.

        Raises:
            SuiteError: rows that the suite does not have, a model that reads other tokens.
        """
        stages: dict[int, Stage] = {}
        for step in in_order(cell.recipe):
            if isinstance(step, Trained):
                last = rows if step is cell.recipe else None
                stages[id(step)] = self._trained(cell, step, stages, last)
            elif isinstance(step, Sampled):
                policy = None if step.policy is None else stages[id(step.policy)]
                stages[id(step)] = self.labels.sampled(cell, step, policy)
            elif isinstance(step, Made):
                read = {role: stages[id(earlier)] for role, earlier in step.inputs.items()}
                stages[id(step)] = made_rows(
                    cell, step, read, self.suite, self.sources, self.executor.device()
                )
            else:
                judges = {name: self.train(cell.models[name]) for name in step.labeller.beside}
                samples = stages[id(step.samples)]
                stages[id(step)] = self.labels.labelled(cell, step, samples, judges)
        return stages[id(cell.recipe)]

    def _trained(
        self, cell: Cell, step: Trained, stages: Mapping[int, Stage], labels: Stage | None
    ) -> Stage:
        """One training.

        Args:
            stages: those of the steps that it reads, by the steps' ids.
            labels: of another cell's recipe, in the place of its rows.
        """
        objective, method, label = step.objective, cell.method, name_of(cell, step)
        if labels is not None:
            label = f"{label} on {labels.label}"
        elif step.rows is not None:
            labels = stages[id(step.rows)]
        inputs = self._rows(step, label, labels)
        start = None if step.start is None else stages[id(step.start)]
        if start is not None:
            inputs[START] = start
        beside = {}
        for role, model in step.models.items():
            other = cell.models[model.objective]
            self._require_vocabulary(cell, other, role)
            inputs[role] = self.train(other, None if model.rows is None else stages[id(model.rows)])
            beside[role] = self.sources.place(other.model)
        if isinstance(method, ServiceMethod):
            return self._at_service(cell, step, method, inputs, label)
        train = Train(
            model=self.sources.model_config(cell.model),
            device=self.executor.device(),
            method=method,
            objective=objective,
            seed=cell.seed,
            data_seed=cell.seed,
            place=self.sources.place(cell.model),
            beside=beside,
        )
        place = f"{self.sources.file}: models.{cell.model}"
        refuse_dtype(method, objective, train.model["dtype"], train.device, place)
        if step.reference is not None:
            inputs[REFERENCE] = self._reference(step.reference, train, inputs, cell.model)
        return train.stage(
            inputs,
            label=label,
            resources=self.suite.resources,
            known=self.sources.known(
                cell.model,
                inputs["train"],
                lengths=() if labels else self._lengths(cell, objective, inputs["train"]),
            ),
        )

    def _at_service(
        self,
        cell: Cell,
        step: Trained,
        method: ServiceMethod,
        inputs: Mapping[str, Stage],
        label: str,
    ) -> Stage:
        """A training that a service does. Options of the objective do not reach it."""
        training = FineTuning(
            model=self.sources.model_config(cell.model),
            method=method,
            objective=step.objective.name,
            seed=cell.seed,
            place=self.sources.place(cell.model),
        )
        return training.stage(
            inputs,
            label=label,
            resources=self.suite.resources,
            known=self.sources.known(cell.model, inputs["train"]),
        )

    def _reference(
        self, fields: Mapping[str, Any], train: Train, inputs: Mapping[str, Stage], model: str
    ) -> Stage:
        """The stage that computes a reference's log-probabilities once, for all that starts there.

        Its config has what the figures depend on. A learning rate, a loss or a number of epochs is
        not among it, nor is a seed, but where a fresh adapter changes the output before it is
        trained.

        Args:
            fields: those of the objective that the figures depend on.
            inputs: of the training. model: the entry of `models:` that it trains.
        """
        rows, start, objective = inputs["train"], inputs.get(START), train.objective
        seeded = start is None and "starts_at_base" in train.method.exceptions()
        reference = Reference(
            model=train.model,
            device=train.device,
            method=train.method,
            objective={"name": objective.name, "version": objective.VERSION, **fields},
            seed=train.seed if seeded else None,
            place=train.place,
        )
        return reference.stage(
            {"train": rows, **({START: start} if start is not None else {})},
            label=f"{model if start is None else start.label} on {rows.label}",
            resources=self.suite.resources,
            known=self.sources.known(model, rows),
        )

    def _rows(self, step: Trained, label: str, labels: Stage | None) -> dict[str, Stage]:
        """Training rows, those the objective names beside them, and validation rows if it reads
        them; of a training that reads labels, these alone."""
        objective = step.objective
        if labels is not None:
            if objective.validates:
                raise SuiteError(
                    f"{objective.name} trains on labels here, which have no validation rows to"
                    " choose a checkpoint by",
                    where=place_of(self.suite, "objective", objective.name, "keep"),
                    fix="set keep: last",
                )
            return {"train": labels}
        self._require_entry(step.entry, objective, "data")
        inputs = {"train": self.sources.rows(step.entry, "train", f"{label} trains on it")}
        for role, entry in objective.more_data().items():
            self._require_entry(entry, objective, role)
            inputs[role] = self.sources.rows(entry, "train")
        if objective.validates:
            reason = f"keep: best of {objective.name} chooses by it"
            inputs["validation"] = self.sources.rows(step.entry, "validation", reason)
        elif objective.measures and self.suite.data[step.entry].validation is not None:
            inputs["validation"] = self.sources.rows(step.entry, "validation")
        return inputs

    def _require_entry(self, entry: str, objective: Objective, role: str) -> None:
        if entry not in self.suite.data:
            message = unknown("data", entry, self.suite.data, hint="the keys of `data:`")
            raise SuiteError(message, where=place_of(self.suite, "objective", objective.name, role))

    def _require_vocabulary(self, cell: Cell, other: Cell, role: str) -> None:
        sizes = [_vocabulary(self.sources.model(v.model).config) for v in (cell, other)]
        if None not in sizes and sizes[0] != sizes[1]:
            raise SuiteError(
                f"'{other.model}' has a vocabulary of {sizes[1]} tokens and '{cell.model}' one"
                f" of {sizes[0]}: it cannot read what the policy writes",
                where=f"{role}_model.model",
                fix="name a model with the policy's tokenizer",
            )


def _vocabulary(config: Mapping[str, object]) -> object:
    """None until the model is on this machine."""
    return config.get("vocab_size")
