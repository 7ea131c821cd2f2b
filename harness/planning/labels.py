"""Rows that a recipe makes on its way: a policy's answers are sampled, and an AI labels them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.core.errors import SuiteError, unknown
from harness.data.preference_rule import find_rule
from harness.executors.base import Executor
from harness.labellers.base import Labeller
from harness.planning.graph import parts
from harness.planning.places import SuitePlaces
from harness.planning.sources import Sources
from harness.stages.base import Known
from harness.stages.check import Check
from harness.stages.label import Label, LabelOptions
from harness.stages.sample import Sample, Sampling
from harness.stages.truth import Truth
from harness.store.stage import Stage
from harness.suite.suite import Suite
from harness.variants.names import place_of
from harness.variants.steps import Labelled, Sampled
from harness.variants.variant import Cell

_HOLD = ("preference", "ranked")
"""Layouts of rows that hold preferences, which a labeller can be checked by."""


@dataclass(frozen=True)
class _Reader:
    """A labeller in a plan: what its stages are alike in.

    Attributes:
        fields: of harness.stages._labelling.Labelling.
        judges: the trained models that it reads, by role.
        model: entry of `models:` that it reads, or that a judge was trained on; None for none.
        dtype: the format that it is read in.
    """

    fields: Mapping[str, Any]
    judges: Mapping[str, Stage]
    model: str | None
    dtype: str


@dataclass
class Labels:
    """Makes the sample and label stages of recipes, and the stages that check labels.

    Attributes:
        checks: key of a label stage -> stages that hold its labels against what is known. They are
            no part of it, so that knowing more labels nothing again.
    """

    suite: Suite
    sources: Sources
    executor: Executor
    checks: dict[str, tuple[Stage, ...]] = field(default_factory=dict)

    def sampled(self, cell: Cell, step: Sampled, policy: Stage | None) -> Stage:
        """The stage of a cell's answers.

        Args:
            policy: the training whose checkpoint answers; None: the model as it is.

        Raises:
            SuiteError: rows that the suite does not have.
        """
        rows, sources = self._prompts(cell, step), self.sources
        sample = Sample(
            device=self.executor.device(),
            model=sources.model_config(cell.model) if policy is None else None,
            sample=Sampling(**step.options, seed=cell.seed),
            place=sources.place(cell.model),
        )
        return sample.stage(
            {"data": rows, **({} if policy is None else {"checkpoint": policy})},
            label=cell.model if policy is None else policy.label,
            resources=self.suite.resources,
            known=sources.known(cell.model, rows),
        )

    def labelled(
        self, cell: Cell, step: Labelled, samples: Stage, judges: Mapping[str, Stage]
    ) -> Stage:
        """The stage of a cell's labels; those that check them go to `checks`.

        Args:
            judges: the trainings of the models that the labeller reads, by role.

        Raises:
            SuiteError: a model or a file that the suite does not have.
        """
        reader = self._reader(cell, step, judges)
        label = Label(label=LabelOptions(**step.options), **reader.fields).stage(
            {"samples": samples, **judges},
            label=f"{samples.label} by {step.labeller.name}",
            resources=self.suite.resources,
            known=self._known(reader, samples.inputs["data"]),
        )
        checks = (*self._checked(step, reader), *self._held_against_truth(step, label))
        self.checks[label.key] = tuple(dict.fromkeys((*self.checks.get(label.key, ()), *checks)))
        return label

    def _prompts(self, cell: Cell, step: Sampled) -> Stage:
        if step.entry not in self.suite.data:
            message = unknown("data", step.entry, self.suite.data, hint="the keys of `data:`")
            raise SuiteError(message, where=self._place(step, "data"))
        return self.sources.rows(step.entry, "train", f"{cell.id} answers its prompts")

    def _reader(self, cell: Cell, step: Labelled, judges: Mapping[str, Stage]) -> _Reader:
        sources, name, dtype = self.sources, None, self.executor.dtype()
        fields: dict[str, Any] = {
            "device": self.executor.device(), "labeller": self._placed(step), "beside": {},
        }  # fmt: skip
        for role in judges:
            name = cell.models[role].model
            sources.model(name)
            fields["beside"][role] = sources.place(name)
        if step.labeller.reads_model:
            name = self._model(cell, step)
            sources.weights(name, f"as the labeller {step.labeller.name}")
            fields |= {"model": sources.model_config(name), "place": sources.place(name)}
            dtype = fields["model"]["dtype"]
        return _Reader(fields, judges, name, dtype)

    def _placed(self, step: Labelled) -> Labeller:
        """The labeller with what its fields name.

        Raises:
            SuiteError: it is a panel, or names a file that is not there.
        """
        place, labeller = self._place(step, "labeller"), step.labeller
        if labeller.judges() != (labeller,):
            raise SuiteError(
                f"'{labeller.name}' is a panel, which judges answers and labels none",
                where=place,
                fix="name one of its members",
            )
        digest = self.sources.store.file_digest
        return labeller.placed(SuitePlaces(self.sources.file, digest, f"{place}.{labeller.name}"))

    def _known(self, reader: _Reader, rows: Stage) -> Known:
        """What the cost of reading the answers to these rows is expected by."""
        sources, name = self.sources, reader.model
        model = None if name is None else sources.model(name)
        return Known(sources.rates, model, reader.dtype, sources.counts(rows))

    def _model(self, cell: Cell, step: Labelled) -> str:
        """The entry of `models:` that judges; the cell's own where none is named."""
        name = getattr(step.labeller, "model", None) or cell.model
        if name not in self.suite.models:
            message = unknown("model", name, self.suite.models, hint="the keys of `models:`")
            place = f"{self._place(step, 'labeller')}.{step.labeller.name}.model"
            raise SuiteError(message, where=place)
        return str(name)

    def _checked(self, step: Labelled, reader: _Reader) -> Iterator[Stage]:
        """The labeller on preferences that rows hold: validation rows, where there are any."""
        entry = step.samples.entry
        validation = self.suite.data[entry].validation is not None
        rows = self.sources.rows(entry, "validation" if validation else "train")
        if not step.check or self.sources.counts(rows).get("layout", _HOLD[0]) not in _HOLD:
            return
        trained_on = [s.inputs["train"] for s in reader.judges.values() if "train" in s.inputs]
        seen = any(parts(others) & parts(rows) for others in trained_on)
        check = Check(check=step.check, tie=step.options["tie"], seen=seen, **reader.fields)
        yield check.stage(
            {"data": rows, **reader.judges},
            label=f"{rows.label} by {step.labeller.name}",
            resources=self.suite.resources,
            known=self._known(reader, rows),
        )

    def _held_against_truth(self, step: Labelled, label: Stage) -> Iterator[Stage]:
        """The labels and a rule of the suite that knows."""
        if step.truth is None:
            return
        digest, place = self.sources.store.file_digest, self._place(step, "truth")
        file, rule = find_rule(step.truth, self.sources.file, digest, place)
        yield Truth(truth=rule, file=file).stage(
            {"labels": label, "samples": label.inputs["samples"]},
            label=label.label,
            resources=self.suite.resources,
        )

    def _place(self, step: Sampled | Labelled, field: str) -> str:
        return place_of(self.suite, "objective", step.asked_by.name, field)
