"""The names that a suite's recipes have beside those of its matrix, told before any is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from harness.core import component
from harness.core.errors import SuiteError
from harness.labellers.base import Labeller
from harness.objectives.base import BASE, Objective
from harness.scorers._asks import NamedLabeller, RewardModel
from harness.scorers.base import Scorer, Subject
from harness.suite.suite import Suite


def written(suite: Suite) -> dict[str, dict[str, Any]]:
    """The fields of every objective in the matrix, as they stand there."""
    found: dict[str, dict[str, Any]] = {}
    for index, spec in enumerate(suite.matrix["objective"]):
        name, fields = component.split_spec(spec, "objective", f"matrix.objective[{index}]")
        found.setdefault(name, fields)
    return found


def place_of(suite: Suite, axis: str, name: str, field: str) -> str:
    """Where the suite sets a field of a component, for messages; the names alone where it leaves
    the field as it is."""
    key = f"{name}.{field}"
    if key in suite.matrix:
        return f"matrix.{key}"
    for index in reversed(range(len(suite.overrides))):
        if key in suite.overrides[index].set:
            return f"overrides[{index}].set.{key}"
    for index, spec in enumerate(suite.matrix.get(axis, [])):
        if component.split_spec(spec, axis, f"matrix.{axis}[{index}]")[0] == name:
            return f"matrix.{axis}[{index}].{key}"
    return f"reward_model.{field}" if name == "reward" else f"{axis} {key}"


def adapter(suite: Suite) -> Any:
    """The matrix's own lora where it has one, so that its SFT serves the reward model too."""
    for index, spec in enumerate(suite.matrix["method"]):
        if component.split_spec(spec, "method", f"matrix.method[{index}]")[0] == "lora":
            return spec
    return "lora"


def in_recipes(suite: Suite) -> dict[str, set[str]]:
    """Axis -> names that the matrix may lack, and that its recipes have: the stages before its
    objectives, the models beside them, and their method.

    Raises:
        SuiteError: a section on a model that no recipe has.
    """
    objectives = set(_before_and_beside(suite))
    if "reward" not in objectives:
        if suite.reward_model:
            raise SuiteError(
                "no objective of the matrix needs a reward model, and no scorer",
                where="reward_model",
                fix="remove the section, or add ppo to the matrix",
            )
        return {"objective": objectives, "method": set()}
    spec = suite.reward_model.get("method", adapter(suite))
    method = component.split_spec(spec, "method", "reward_model.method")[0]
    return {"objective": objectives, "method": {method}}


def last_stages(suite: Suite) -> set[str]:
    """The objectives that train the last stages of the matrix's cells."""
    found = set()
    for name in written(suite):
        if name not in component.names("objective"):
            continue  # refused where it stands
        declared = cast(type[Objective], component.find("objective", name))
        for fields in _as_set(suite, name):
            feedback = declared.model_construct(**fields).feedback
            found.add(name if feedback is None else str(feedback.then))
    return found


def _before_and_beside(suite: Suite) -> Iterator[str]:
    done = {name for i, s in enumerate(suite.scorers) for name in _of_scorer(s, f"scorers[{i}]")}
    yield from done
    waiting = [*written(suite), *done]
    while waiting:
        name = waiting.pop()
        if name not in component.names("objective"):
            continue  # an unknown name is refused where it stands
        declared = cast(type[Objective], component.find("objective", name))
        for fields in _as_set(suite, name):
            start = fields.get("start")
            # What is no name is refused, with its place, where the objective is made.
            begins = start if isinstance(start, str) and start else declared.starts_from
            for other in (begins, *declared.beside, *_of_feedback(suite, declared, fields)):
                if other != BASE and other not in done:
                    done.add(other)
                    yield other
                    waiting.append(other)


def _of_scorer(spec: Any, where: str) -> Iterator[str]:
    """The objectives whose models a scorer reads, itself or through a labeller."""
    scorer = cast(Scorer, component.build("scorer", spec, where))
    for name, asked in scorer.asks(Subject()).items():
        if isinstance(asked, RewardModel):
            yield "reward"
        elif isinstance(asked, NamedLabeller):
            place = f"{where}.{scorer.name}.{name}"
            yield from cast(Labeller, component.build("labeller", asked.spec, place)).beside


def _as_set(suite: Suite, name: str) -> Iterator[Mapping[str, Any]]:
    """An objective's fields as written, and with each value that an axis or a rule gives one."""
    own = written(suite).get(name, {})
    yield own
    axes = [(key, value) for key, values in suite.matrix.items() for value in values]
    for key, value in [*axes, *(item for rule in suite.overrides for item in rule.set.items())]:
        component_name, _, path = key.partition(".")
        if component_name == name:
            yield {**own, path: value}


def _of_feedback(
    suite: Suite, declared: type[Objective], fields: Mapping[str, Any]
) -> Iterator[str]:
    """The objective that ends the recipe of one that makes its own rows, and those whose models its
    labeller reads."""
    feedback = declared.model_construct(**fields).feedback
    if feedback is None:
        return
    if isinstance(feedback.then, str):
        yield feedback.then
    where = place_of(suite, "objective", declared.name, "labeller")
    name, _ = component.split_spec(feedback.labeller, "labeller", where)
    yield from cast(type[Labeller], component.find("labeller", name, where)).beside
