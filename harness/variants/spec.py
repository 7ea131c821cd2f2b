"""A cell of the matrix as a suite writes it, and the components that this makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from harness.core import from_yaml, registry
from harness.methods.base import Method
from harness.objectives.base import Objective
from harness.suite.suite import Suite
from harness.variants.settings import Fields, holds, set_budget, set_fields


@dataclass(frozen=True)
class Spec:
    """A cell before its components are made.

    Attributes:
        labels: model, data, method and objective by name.
        fields: of the method and of the objective.
        written: fields of every objective that the suite writes down.
        hyper: `component.field` -> value, of every axis that is a hyper-parameter.
        where: places in the suite, by axis, for messages.
    """

    labels: Mapping[str, str]
    fields: Mapping[str, Mapping[str, Any]]
    written: Mapping[str, Mapping[str, Any]]
    hyper: Mapping[str, Any]
    where: Mapping[str, str] = field(default_factory=dict)

    @property
    def seen(self) -> dict[str, str]:
        """What the rules of `overrides:` and `exclude:` are held against."""
        return {**self.labels, **{key: str(value) for key, value in self.hyper.items()}}


def method_of(suite: Suite, spec: Spec) -> Method:
    """The cell's method, with what the suite sets for it.

    Raises:
        SuiteError: a field or a value that cannot be meant.
    """
    name = spec.labels["method"]
    fields, places = _set(suite, spec, name, spec.fields[name], spec.labels["objective"])
    where = _place(suite, spec, "method", name, places)
    declared = registry.find("method", name)
    return cast(Method, from_yaml.build_fields(declared, fields, where, places))


def objective_of(suite: Suite, spec: Spec, name: str, fields: Mapping[str, Any]) -> Objective:
    """One objective of the cell's recipe, with what the suite sets for it.

    Args:
        fields: as they stand where the suite writes it down.

    Raises:
        SuiteError: a field or a value that cannot be meant.
    """
    declared = registry.find("objective", name, spec.where.get("objective", ""))
    fields, places = _set(suite, spec, name, fields, name)
    where = _place(suite, spec, "objective", name, places)
    return cast(Objective, from_yaml.build_fields(declared, fields, where, places))


def within_budget(suite: Suite, spec: Spec, objective: Objective) -> Objective:
    """The objective, its training ended where the suite's budget says; as it is without one.

    Raises:
        SuiteError: it has no such limit, or the cell sets one itself.
    """
    if suite.budget is None:
        return objective
    name = objective.name
    parts = {name: {field: getattr(objective, field) for field in objective.model_fields_set}}
    set_budget(parts, name, suite.budget)
    _, places = _set(suite, spec, name, {}, name)
    where = _place(suite, spec, "objective", name, places)
    places[suite.budget.field] = f"budget.{suite.budget.field.removeprefix('max_')}"
    return from_yaml.build_fields(type(objective), parts[name], where, places)


def _place(suite: Suite, spec: Spec, axis: str, name: str, places: Mapping[str, str]) -> str:
    """Where the suite writes a component of a recipe down, or what it sets of it; its name alone
    where it does neither."""
    if spec.labels[axis] == name and axis in spec.where:
        return f"{spec.where[axis]}.{name}" if spec.where[axis].endswith("]") else spec.where[axis]
    for index, member in enumerate(suite.matrix.get(axis, [])):
        if from_yaml.split_spec(member, axis, f"matrix.{axis}[{index}]")[0] == name:
            return f"matrix.{axis}[{index}].{name}"
    if places:
        return next(iter(places.values())).rpartition(".")[0]
    return f"{axis} {name}"


def _set(
    suite: Suite, spec: Spec, name: str, fields: Mapping[str, Any], stage: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """A component's fields after the overrides and the axes that name it, and where those of them
    stand that came from there.

    An override that matches `objective: sft` holds for that stage of every recipe, so that one SFT
    serves all; one that matches `objective: dpo` may also set fields of the stages before it.
    """
    parts: Fields = {name: dict(fields)}
    of_stage = {**spec.seen, "objective": stage}
    places: dict[str, str] = {}
    values: list[tuple[str, Mapping[str, Any]]] = [
        (f"overrides[{index}].set", override.set)
        for index, override in enumerate(suite.overrides)
        if holds(override.match, spec.seen) or holds(override.match, of_stage)
    ]
    for where, settings in (*values, ("matrix", spec.hyper)):
        set_fields(parts, settings, where)
        keys = [key.split(".") for key in settings]
        places |= {key[1]: f"{where}.{name}.{key[1]}" for key in keys if key[0] == name}
    return parts[name], places
