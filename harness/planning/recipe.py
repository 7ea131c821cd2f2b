"""Training stages in a plan: a recipe's, one after the other, and the models beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.core.errors import SuiteError, unknown
from harness.executors.base import Executor
from harness.methods.base import Method
from harness.objectives.base import Objective
from harness.planning.feedback import labels_of
from harness.planning.graph import STAGE_VERSIONS
from harness.planning.pairs import lacking, refusal_of
from harness.planning.precision import refuse_dtype
from harness.planning.reference import REFERENCE, reference_of
from harness.planning.sources import Sources
from harness.stages._cost import predict_train
from harness.store.stage import Stage
from harness.suite.suite import Suite
from harness.variants.recipe_names import place_of
from harness.variants.variant import Variant

START = "start"
"""Role of the checkpoint that a stage goes on from."""


@dataclass(frozen=True)
class Training:
    """One stage of a recipe, before it is a stage of the plan.

    Attributes:
        entry: data entry whose rows it reads.
        labelled: it reads labelled answers instead.
    """

    variant: Variant
    method: Method
    objective: Objective
    entry: str
    label: str
    labelled: bool = False


def trainings(variant: Variant, *, labelled: bool = False) -> Iterator[Training]:
    """The stages of a variant's recipe, the first one first; not those of models beside it.

    Args:
        labelled: the variant is a model beside one that makes its rows, and is trained on them.
    """
    if not (variant.method and variant.objective and variant.data):
        return
    seed = f"#{variant.seed}" if variant.id.endswith(f"#{variant.seed}") else ""
    for before in variant.before:
        objective = before.objective
        entry = objective.data or variant.data
        yield Training(variant, variant.method, objective, entry, before.group + seed)
    entry = variant.objective.data or variant.data
    labelled = labelled or (variant.feedback is not None and not variant.objective.beside)
    yield Training(variant, variant.method, variant.objective, entry, variant.id, labelled)


def all_trainings(variant: Variant, *, labelled: bool = False) -> Iterator[Training]:
    """Those of the models beside it too, and of those that its labeller reads."""
    for other in variant.judges.values():
        yield from all_trainings(other)
    last = variant.objective.beside if variant.objective is not None else ()
    for role, other in variant.beside.items():
        yield from all_trainings(other, labelled=variant.feedback is not None and role in last)
    yield from trainings(variant, labelled=labelled)


def refuse_pairs(variant: Variant) -> None:
    """A method that lacks what an objective's options ask of it is refused, with the reason.

    Raises:
        SuiteError: for the variant's own recipe, or for a model beside it.
    """
    for made in all_trainings(variant):
        refusal = refusal_of(made.method, made.objective)
        if refusal is not None:
            raise SuiteError(
                f"method '{made.method.name}' cannot be trained with '{made.objective.name}'"
                f" as set: {refusal}",
                where=f"variant {variant.id}",
                fix="change the option with `overrides:`, or leave the cell out with `exclude:`",
            )
    for role, other in variant.beside.items():
        if variant.objective is None or other.method is None:
            continue
        refusal = lacking(other.method, variant.objective.needs_beside(role))
        if refusal is not None:
            raise SuiteError(
                f"a {role} model trained with '{other.method.name}' cannot serve"
                f" '{variant.objective.name}' as set: {refusal}",
                where=f"variant {variant.id}",
                fix=f"name another method in `{role}_model:`, or change the option",
            )


class Recipes:
    """Makes the training stages of variants; equal ones are one stage by their key."""

    def __init__(self, suite: Suite, sources: Sources, executor: Executor) -> None:
        self.suite, self.sources, self.executor = suite, sources, executor
        self.checks: dict[str, tuple[Stage, ...]] = {}
        """Key of a label stage -> stages that hold its labels against what is known."""

    def train(self, variant: Variant, labels: Stage | None = None) -> Stage:
        """The last stage of a variant's recipe; those before it are among its inputs.

        Args:
            labels: rows made on the way of another variant, for this one to train on.

        Raises:
            SuiteError: rows that the suite does not have, a model that reads other tokens.
        """
        *earlier, last = trainings(variant, labelled=labels is not None)
        before: Stage | None = None
        for made in earlier:
            before = self._stage(made, before, None)
        if variant.feedback is not None and before is not None:
            labels, checks = labels_of(
                variant, before, self.suite, self.sources, self.executor, self.train
            )
            known = self.checks.get(labels.key, ())
            self.checks[labels.key] = tuple(dict.fromkeys((*known, *checks)))
        return self._stage(last, before, labels)

    def _stage(self, made: Training, before: Stage | None, labels: Stage | None) -> Stage:
        variant, objective, label = made.variant, made.objective, made.label
        inputs = self._rows(made, labels)
        if labels is not None and made.labelled and variant.feedback is None:
            label = f"{made.label} on {labels.label}"
        locators = dict(self.sources.model_locators(variant.model))
        if before is not None:
            inputs[START] = before
        own_locators = dict(locators)
        for role in objective.beside:
            other = variant.beside[role]
            self._require_vocabulary(variant, other, role)
            inputs[role] = self.train(other, None if made.labelled else labels)
            own = self.sources.model_locators(other.model)
            locators |= {f"{role}.{name}": place for name, place in own.items()}
        config: dict[str, Any] = {
            "version": STAGE_VERSIONS["train"],
            "model": self.sources.model_config(variant.model),
            "device": self.executor.device(),
            "method": made.method.identity(),
            "objective": objective.identity(),
            "seed": variant.seed,
            "data_seed": variant.seed,
        }
        refuse_dtype(
            made.method, objective, config["model"]["dtype"], config["device"],
            f"{self.sources.file}: models.{variant.model}",
        )  # fmt: skip
        reference = reference_of(
            made.method, objective, config, inputs["train"], before, own_locators,
            self.suite, self.sources, variant.model,
        )  # fmt: skip
        if reference is not None:
            inputs[REFERENCE] = reference
        stage = Stage(
            "train", config, inputs, locators, resources=self.suite.resources, label=label
        )
        predicted = predict_train(
            self.sources.models[variant.model], made.method, objective,
            self.sources.counts(inputs["train"]), self.sources.rates, config["model"]["dtype"],
        )  # fmt: skip
        return replace(stage, predicted=predicted)

    def _rows(self, made: Training, labels: Stage | None) -> dict[str, Stage]:
        """Training rows, those the objective names beside them, and validation rows if it reads
        them; of a stage that trains on labels, these alone."""
        objective, data = made.objective, self.suite.data
        if made.labelled and labels is not None:
            if objective.validates:
                raise SuiteError(
                    f"{objective.name} trains on labels here, which have no validation rows to"
                    " choose a checkpoint by",
                    where=place_of(self.suite, "objective", objective.name, "keep"),
                    fix="set keep: last",
                )
            return {"train": labels}
        self._require_entry(made.entry, made, "data")
        inputs = {"train": self.sources.rows(made.entry, "train", f"{made.label} trains on it")}
        for role, entry in objective.more_data().items():
            self._require_entry(entry, made, role)
            inputs[role] = self.sources.rows(entry, "train")
        if objective.validates:
            reason = f"keep: best of {objective.name} chooses by it"
            inputs["validation"] = self.sources.rows(made.entry, "validation", reason)
        elif objective.measures and data[made.entry].validation is not None:
            inputs["validation"] = self.sources.rows(made.entry, "validation")
        return inputs

    def _require_entry(self, entry: str, made: Training, role: str) -> None:
        if entry not in self.suite.data:
            message = unknown("data", entry, self.suite.data, hint="the keys of `data:`")
            raise SuiteError(
                message, where=place_of(self.suite, "objective", made.objective.name, role)
            )

    def _require_vocabulary(self, variant: Variant, other: Variant, role: str) -> None:
        sizes = [_vocabulary(self.sources.model(v.model).config) for v in (variant, other)]
        if None not in sizes and sizes[0] != sizes[1]:
            raise SuiteError(
                f"'{other.model}' has a vocabulary of {sizes[1]} tokens and '{variant.model}' one"
                f" of {sizes[0]}: it cannot read what the policy writes",
                where=f"{role}_model.model",
                fix="name a model with the policy's tokenizer",
            )


def _vocabulary(config: Mapping[str, object]) -> object:
    """None until the model is on this machine."""
    return config.get("vocab_size")
