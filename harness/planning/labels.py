"""Rows that a recipe makes on its way: a policy's answers are sampled, and an AI labels them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.core.errors import SuiteError, unknown
from harness.data.preference_rule import find_rule
from harness.executors.base import Executor
from harness.labellers.base import Labeller
from harness.models.files import ModelInfo
from harness.planning.graph import STAGE_VERSIONS, parts
from harness.planning.sources import Sources
from harness.stages._cost import predict_label
from harness.stages.sample import Sample, Sampling
from harness.store.stage import Stage
from harness.suite.suite import Suite
from harness.variants.names import place_of
from harness.variants.steps import Labelled, Sampled
from harness.variants.variant import Variant

_HOLD = ("preference", "ranked")
"""Layouts of rows that hold preferences, which a labeller can be checked by."""


@dataclass(frozen=True)
class _Reader:
    """A labeller in a plan: what its stages are alike in.

    Attributes:
        config: the device, the labeller, and the untrained model that it reads.
        judges: the trained models that it reads, by role.
        info: the model that it reads; None where it reads none.
    """

    labeller: Labeller
    config: Mapping[str, Any]
    judges: Mapping[str, Stage]
    locators: Mapping[str, str]
    info: ModelInfo | None
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

    def sampled(self, variant: Variant, step: Sampled, policy: Stage) -> Stage:
        """The stage of a variant's answers.

        Args:
            policy: the training whose checkpoint answers.

        Raises:
            SuiteError: rows that the suite does not have.
        """
        rows = self._prompts(variant, step)
        sample = Sample(
            device=self.executor.device(),
            sample=Sampling(**step.options, seed=variant.seed),
            place=self.sources.place(variant.model),
        )
        return sample.stage(
            {"data": rows, "checkpoint": policy},
            label=policy.label,
            resources=self.suite.resources,
            known=self.sources.known(variant.model, rows),
        )

    def labelled(
        self, variant: Variant, step: Labelled, samples: Stage, judges: Mapping[str, Stage]
    ) -> Stage:
        """The stage of a variant's labels; those that check them go to `checks`.

        Args:
            judges: the trainings of the models that the labeller reads, by role.

        Raises:
            SuiteError: a model or a file that the suite does not have.
        """
        reader, asked = self._reader(variant, step, judges), step.samples.options
        label = self._read(
            reader, "label", {"label": dict(step.options)}, {"samples": samples},
            samples.inputs["data"], asked["samples"], asked,
            f"{samples.label} by {step.labeller.name}",
        )  # fmt: skip
        checks = (*self._checked(step, reader), *self._held_against_truth(step, label))
        self.checks[label.key] = tuple(dict.fromkeys((*self.checks.get(label.key, ()), *checks)))
        return label

    def _prompts(self, variant: Variant, step: Sampled) -> Stage:
        if step.entry not in self.suite.data:
            message = unknown("data", step.entry, self.suite.data, hint="the keys of `data:`")
            raise SuiteError(message, where=self._place(step, "data"))
        return self.sources.rows(step.entry, "train", f"{variant.id} answers its prompts")

    def _reader(self, variant: Variant, step: Labelled, judges: Mapping[str, Stage]) -> _Reader:
        sources, labeller = self.sources, step.labeller
        config: dict[str, Any] = {
            "device": self.executor.device(),
            "labeller": labeller.identity(),
        }
        # A worker needs every field; those that change no label are not hashed.
        locators = {"labeller": json.dumps(labeller.model_dump(mode="json"))}
        info, dtype = None, self.executor.dtype()
        for role in judges:
            name = variant.models[role].model
            info = sources.model(name)
            places = sources.model_locators(name)
            locators |= {f"{role}.{key}": place for key, place in places.items()}
        if labeller.reads_model:
            name = self._model(variant, step)
            info = sources.model(name)
            config["model"] = sources.model_config(name)
            locators |= sources.model_locators(name)
            dtype = config["model"]["dtype"]
        return _Reader(labeller, config, judges, locators, info, dtype)

    def _model(self, variant: Variant, step: Labelled) -> str:
        """The entry of `models:` that judges; the cell's own where none is named."""
        name = getattr(step.labeller, "model", None) or variant.model
        if name not in self.suite.models:
            message = unknown("model", name, self.suite.models, hint="the keys of `models:`")
            place = f"{self._place(step, 'labeller')}.{step.labeller.name}.model"
            raise SuiteError(message, where=place)
        return str(name)

    def _read(
        self, reader: _Reader, kind: str, config: Mapping[str, Any], inputs: Mapping[str, Stage],
        rows: Stage, answers: int, options: Mapping[str, Any], label: str,
    ) -> Stage:  # fmt: skip
        """A stage in which the labeller reads answers.

        Args:
            rows: whose prompts are answered. answers: so many to each.
            options: of the sampling, by which its cost is expected.
        """
        predicted = predict_label(
            reader.info, reader.labeller.sequences(answers), options, reader.dtype,
            self.sources.counts(rows), self.sources.rates, reader.labeller.calls_at_once(),
        )  # fmt: skip
        return Stage(
            kind,
            {"version": STAGE_VERSIONS[kind], **reader.config, **config},
            {**inputs, **reader.judges},
            reader.locators,
            self.suite.resources,
            label=label,
            predicted=predicted,
        )

    def _checked(self, step: Labelled, reader: _Reader) -> Iterator[Stage]:
        """The labeller on preferences that rows hold: validation rows, where there are any."""
        entry = step.samples.entry
        validation = self.suite.data[entry].validation is not None
        rows = self.sources.rows(entry, "validation" if validation else "train")
        if not step.check or self.sources.counts(rows).get("layout", _HOLD[0]) not in _HOLD:
            return
        trained_on = [s.inputs["train"] for s in reader.judges.values() if "train" in s.inputs]
        seen = any(parts(own) & parts(rows) for own in trained_on)
        yield self._read(
            reader, "check", {"check": step.check, "tie": step.options["tie"], "seen": seen},
            {"data": rows}, rows, 2, {"prompts": step.check, "max_new_tokens": 0},
            f"{rows.label} by {step.labeller.name}",
        )  # fmt: skip

    def _held_against_truth(self, step: Labelled, label: Stage) -> Iterator[Stage]:
        """The labels and a rule of the suite that knows."""
        if step.truth is None:
            return
        digest, place = self.sources.store.file_digest, self._place(step, "truth")
        path, rule = find_rule(step.truth, self.sources.file, digest, place)
        yield Stage(
            "truth",
            {"version": STAGE_VERSIONS["truth"], "truth": rule},
            {"labels": label, "samples": label.inputs["samples"]},
            {"truth": path},
            self.suite.resources,
            label=label.label,
        )

    def _place(self, step: Sampled | Labelled, field: str) -> str:
        return place_of(self.suite, "objective", step.asked_by.name, field)
