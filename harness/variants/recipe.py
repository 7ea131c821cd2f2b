"""Recipes: what is trained before a cell's objective, and which models beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from harness.core import component
from harness.core.errors import SuiteError, unknown
from harness.labellers.base import Labeller
from harness.methods.base import Method
from harness.objectives.base import BASE, Objective
from harness.suite.suite import Suite
from harness.variants.recipe_names import adapter, place_of
from harness.variants.settings import Fields, holds, set_budget, set_fields

Written = Mapping[str, Mapping[str, Any]]
"""Objective -> its fields as the suite writes them."""
_BESIDE = ("method", "model", "seed")
"""Keys of `reward_model:` that are no fields of the objective."""


@dataclass(frozen=True)
class Trained:
    """A method, and the objectives it is trained with one after the other.

    Attributes:
        asked: what the recipe is named after: the last stage, or what makes the rows for it.
        stages: each starts from the one before it.
        applied: hyper-parameters of the matrix that belong to the method or to one of the stages.
    """

    method: Method
    asked: Objective
    stages: tuple[Objective, ...]
    applied: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A cell of the matrix as the suite writes it, before its components are made.

    Attributes:
        labels: model, data, method and objective by name.
        fields: of the method and of the objective.
        written: fields of every objective that the suite writes down.
        hyper: `component.field` -> value, of every axis that is a hyper-parameter.
        where: places in the suite, by axis, for messages.
    """

    labels: Mapping[str, str]
    fields: Mapping[str, Mapping[str, Any]]
    written: Written
    hyper: Mapping[str, Any]
    where: Mapping[str, str] = field(default_factory=dict)

    @property
    def seen(self) -> dict[str, str]:
        """What the rules of `overrides:` and `exclude:` are held against."""
        return {**self.labels, **{key: str(value) for key, value in self.hyper.items()}}


def recipe_of(suite: Suite, cell: Cell) -> Trained:
    """The cell's method and the objectives of its recipe, hyper-parameters set.

    Raises:
        SuiteError: a field or a value that cannot be meant, or a start that is none.
    """
    asked, stages = _stages(suite, cell)
    made = [asked, *stages]
    names = {cell.labels["method"], *(s.name for s in made), *(n for s in stages for n in s.beside)}
    if (labeller := labeller_of(suite, asked)) is not None:
        names |= set(labeller.beside)
    applied = {key: value for key, value in cell.hyper.items() if key.split(".")[0] in names}
    cell = Cell(cell.labels, cell.fields, cell.written, applied, cell.where)
    name = cell.labels["method"]
    fields, places = _set(suite, cell, name, cell.fields[name], cell.labels["objective"])
    declared = component.find("method", name)
    where = _place(suite, cell, "method", name, places)
    method = component.build_fields(declared, fields, where, places)
    asked, stages = _stages(suite, cell)
    return Trained(cast(Method, method), asked, tuple(stages), applied)


def labeller_of(suite: Suite, asked: Objective) -> Labeller | None:
    """Who labels the rows that an objective makes; None for one that makes none.

    Raises:
        SuiteError: there is no such labeller, or a field of it that cannot be meant.
    """
    if asked.feedback is None:
        return None
    where = place_of(suite, "objective", asked.name, "labeller")
    return cast(Labeller, component.build("labeller", asked.feedback.labeller, where))


def _stages(suite: Suite, cell: Cell) -> tuple[Objective, list[Objective]]:
    """The cell's objective, and what is trained from the first stage to the last, each told by the
    start of the one after it."""
    name = cell.labels["objective"]
    asked = last = _made(suite, cell, name, cell.fields[name])
    if asked.feedback is not None:
        _start(suite, asked, [asked])
        then = asked.feedback.then
        last = _made(suite, cell, then, cell.written.get(then, {}))
        last = last.model_copy(update={"start": asked.begins, "data": asked.data})
    stages = [last]
    while stages[0].begins != BASE:
        name = _start(suite, stages[0], stages)
        stages.insert(0, _made(suite, cell, name, cell.written.get(name, {})))
    return asked, stages


def _made(suite: Suite, cell: Cell, name: str, fields: Mapping[str, Any]) -> Objective:
    """One objective of a recipe, with what the suite sets for it; a budget ends what trains."""
    declared = component.find("objective", name, cell.where.get("objective", ""))
    own, places = _set(suite, cell, name, fields, name)
    where = _place(suite, cell, "objective", name, places)
    made = cast(Objective, component.build_fields(declared, own, where, places))
    if suite.budget is None or made.feedback is not None:
        return made
    parts = {name: own}
    set_budget(parts, name, suite.budget)
    places[suite.budget.field] = f"budget.{suite.budget.field.removeprefix('max_')}"
    return cast(Objective, component.build_fields(declared, parts[name], where, places))


def _place(suite: Suite, cell: Cell, axis: str, name: str, places: Mapping[str, str]) -> str:
    """Where the suite writes a component of a recipe down, or what it sets of it; its name alone
    where it does neither."""
    if cell.labels[axis] == name and axis in cell.where:
        return f"{cell.where[axis]}.{name}" if cell.where[axis].endswith("]") else cell.where[axis]
    for index, spec in enumerate(suite.matrix.get(axis, [])):
        if component.split_spec(spec, axis, f"matrix.{axis}[{index}]")[0] == name:
            return f"matrix.{axis}[{index}].{name}"
    if places:
        return next(iter(places.values())).rpartition(".")[0]
    return f"{axis} {name}"


def _start(suite: Suite, made: Objective, after: Sequence[Objective]) -> str:
    """The objective before `made`.

    Raises:
        SuiteError: there is none of this name, it leaves no policy, or it comes after it.
    """
    name, where = made.begins, place_of(suite, "objective", made.name, "start")
    known = [n for n in component.names("objective") if n != made.name]
    if name not in component.names("objective"):
        raise SuiteError(unknown("start", name, [BASE, *known]), where=where)
    declared = cast(type[Objective], component.find("objective", name))
    if declared.head == "score":
        raise SuiteError(
            f"'{name}' leaves a model that scores, and nothing that writes can start from it",
            where=where,
            fix="start from base, cpt or sft",
        )
    if name in [stage.name for stage in after]:
        path = " -> ".join(reversed([*(stage.name for stage in reversed(after)), name]))
        raise SuiteError(f"the recipe starts from itself: {path}", where=where)
    return name


def _set(
    suite: Suite, cell: Cell, name: str, fields: Mapping[str, Any], stage: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """A component's fields after the overrides and the axes that name it, and where those of them
    stand that came from there.

    An override that matches `objective: sft` holds for that stage of every recipe, so that one SFT
    serves all; one that matches `objective: dpo` may also set fields of the stages before it.
    """
    parts: Fields = {name: dict(fields)}
    own = {**cell.seen, "objective": stage}
    places: dict[str, str] = {}
    values: list[tuple[str, Mapping[str, Any]]] = [
        (f"overrides[{index}].set", override.set)
        for index, override in enumerate(suite.overrides)
        if holds(override.match, cell.seen) or holds(override.match, own)
    ]
    for where, found in (*values, ("matrix", cell.hyper)):
        set_fields(parts, found, where)
        keys = [key.split(".") for key in found]
        places |= {key[1]: f"{where}.{name}.{key[1]}" for key in keys if key[0] == name}
    return parts[name], places


def cell_beside(suite: Suite, cell: Cell, role: str) -> tuple[Cell, int]:
    """A model beside a cell (the reward model), as a cell of its own, and its seed.

    It is shared by all cells of one model and data entry: of the matrix's axes only those that
    name its own objective reach it. Its SFT is that of its own method.

    Raises:
        SuiteError: a key of its section that cannot be meant.
    """
    section, where = suite.reward_model, f"{role}_model"
    spec = section.get("method", adapter(suite))
    method, fields = component.split_spec(spec, "method", f"{where}.method")
    component.find("method", method, f"{where}.method")
    model = section.get("model", cell.labels["model"])
    if str(model) not in suite.models:
        message = unknown("model", str(model), suite.models, hint="the keys of `models:`")
        raise SuiteError(message, where=f"{where}.model")
    seed = section.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        message = f"a seed is a whole number from 0 to {2**32 - 1:,}, not {seed!r}"
        raise SuiteError(message, where=f"{where}.seed")
    own = {key: value for key, value in section.items() if key not in _BESIDE}
    known = [*_BESIDE, *component.find("objective", role).model_fields]
    for key in own:
        if key not in known:
            raise SuiteError(unknown("key", key, known, where=where))
    made = Cell(
        labels={**cell.labels, "model": model, "method": method, "objective": role},
        fields={method: fields, role: own},
        written=cell.written,
        hyper={k: v for k, v in cell.hyper.items() if k.split(".")[0] == role},
        where={"objective": where, **({"method": f"{where}.method.{method}"} if fields else {})},
    )
    return made, seed


def group_of(
    labels: Mapping[str, str], trained: Trained, objective: Objective, several: Sequence[str]
) -> str:
    """The name of a stage of a recipe: what it is trained with, up to that stage."""
    names = [stage.name for stage in trained.stages]
    names = [trained.method.name, *names[: names.index(objective.name) + 1]]
    last = objective is trained.stages[-1]
    named = trained.asked if last else objective
    applied = {k: v for k, v in trained.applied.items() if last or k.split(".")[0] in names}
    group = "-".join([trained.method.name, named.name, *(labels[axis] for axis in several)])
    if named.begins != named.starts_from and f"{named.name}.start" not in applied:
        group += f"-start={named.begins}"
    return group + "".join(f"-{k.split('.')[-1]}={_shown(v)}" for k, v in applied.items())


def _shown(value: Any) -> Any:
    """A value of an axis in a name; a component with options as name(option=value)."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, options),) = value.items()
        if isinstance(options, Mapping):
            return f"{name}({','.join(f'{k}={v}' for k, v in options.items())})"
    return value


def refuse_scores(objective: str, where: str) -> None:
    """A model that writes nothing has no answers to compare."""
    declared = cast(type[Objective], component.find("objective", objective))
    if declared.head == "score":
        raise SuiteError(
            f"'{objective}' trains a model that scores and writes no answers, so it is no variant",
            where=where,
            fix=f"describe it in `{objective}_model:`; it is trained for the objectives that need"
            " one, and its record tells its accuracy",
        )
