"""The names in a suite's recipes, taken down before anything is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import ValidationError

from harness.core import from_yaml, registry
from harness.core.errors import SuiteError
from harness.labellers.base import Labeller
from harness.objectives.base import BASE, Objective
from harness.scorers._asks import NamedLabeller, RewardModel
from harness.scorers.base import Scorer, Subject
from harness.suite.suite import Suite


class Names:
    """Takes down the names in one objective's recipe, that of its start aside (`Recipe`).

    Attributes:
        start_name: the objective that it starts from, or `base`.
        objectives: those that the recipe trains, models beside it included.
        stages: objectives and kinds of stages on its path, in order.
        beside: objectives that train models beside it, on rows of the suite.
        labellers: as the suite writes them.
    """

    def __init__(self, declared: type[Objective], fields: Mapping[str, Any] | None = None) -> None:
        self.start_name = BASE
        self.objectives: list[str] = []
        self.stages: list[str] = []
        self.beside: list[str] = []
        self.labellers: list[Any] = []
        _as_far_as_valid(declared, fields or {}).recipe(self)

    def start(self, objective: Objective, default: str = BASE) -> None:
        """As `Recipe.start`, as are the others."""
        self.start_name = objective.start or default

    def train(self, objective: Objective | str, **_: Any) -> str:
        name = objective if isinstance(objective, str) else objective.name
        self.objectives.append(name)
        return self.stage(name)

    def model(self, objective: str, rows: Any = None) -> str:
        self.objectives.append(objective)
        if rows is not None:
            return self.stage(objective)
        self.beside.append(objective)
        return objective

    def sample(self, policy: Any, **_: Any) -> str:
        return self.stage("sample")

    def label(self, samples: Any, *, by: Any, **_: Any) -> str:
        self.labellers.append(by)
        return self.stage("label")

    def stage(self, kind: str, **_: Any) -> str:
        self.stages.append(kind)
        return kind


def _as_far_as_valid(declared: type[Objective], fields: Mapping[str, Any]) -> Objective:
    """The objective with those fields that can be meant; the others are refused, with their place,
    where the objective is made for a cell. A field that the suite must give is None if it is not
    there."""
    try:
        return declared(**fields)
    except ValidationError as error:
        wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
    needed = {name: None for name, field in declared.model_fields.items() if field.is_required()}
    valid = {name: value for name, value in fields.items() if name not in wrong}
    return declared.model_construct(**{**needed, **valid})


def stages_of(declared: type[Objective]) -> list[str]:
    """All stages of an objective's recipe with its default options, from `base` on."""
    names = Names(declared)
    stages, starts = names.stages, {BASE}
    while names.start_name not in starts:  # a plugin's defaults may go round
        starts.add(names.start_name)
        names = Names(cast(type[Objective], registry.find("objective", names.start_name)))
        stages = [*names.stages, *stages]
    return [BASE, *stages]


def written(suite: Suite) -> dict[str, dict[str, Any]]:
    """The fields of every objective in the matrix, as they stand there."""
    fields_of: dict[str, dict[str, Any]] = {}
    for index, spec in enumerate(suite.matrix["objective"]):
        name, fields = from_yaml.split_spec(spec, "objective", f"matrix.objective[{index}]")
        fields_of.setdefault(name, fields)
    return fields_of


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
        if from_yaml.split_spec(spec, axis, f"matrix.{axis}[{index}]")[0] == name:
            return f"matrix.{axis}[{index}].{key}"
    return f"reward_model.{field}" if name == "reward" else f"{axis} {key}"


def adapter(suite: Suite) -> Any:
    """The matrix's own lora where it has one, so that its SFT serves the reward model too."""
    for index, spec in enumerate(suite.matrix["method"]):
        if from_yaml.split_spec(spec, "method", f"matrix.method[{index}]")[0] == "lora":
            return spec
    return "lora"


def in_recipes(suite: Suite) -> dict[str, set[str]]:
    """Axis -> names that the matrix may lack, and that its recipes have: the stages before its
    objectives, the models beside them, and their method.

    Raises:
        SuiteError: a section on a model that no recipe has.
    """
    objectives = _objectives(suite)
    if "reward" not in objectives:
        if suite.reward_model:
            raise SuiteError(
                "no objective of the matrix needs a reward model, and no scorer",
                where="reward_model",
                fix="remove the section, or add ppo to the matrix",
            )
        return {"objective": objectives, "method": set()}
    spec = suite.reward_model.get("method", adapter(suite))
    method = from_yaml.split_spec(spec, "method", "reward_model.method")[0]
    return {"objective": objectives, "method": {method}}


def last_stages(suite: Suite) -> set[str]:
    """The objectives that train the last stages of the matrix's cells."""
    return {names.stages[-1] for name in written(suite) for names in _names_of(suite, name)}


def _objectives(suite: Suite) -> set[str]:
    """The objectives that the recipes have, the matrix's own only where a recipe has them too."""
    scorers = enumerate(suite.scorers)
    objectives = {name for i, spec in scorers for name in _of_scorer(spec, f"scorers[{i}]")}
    waiting = [*written(suite), *objectives]
    while waiting:
        name = waiting.pop()
        for names in _names_of(suite, name):
            others = {names.start_name, *names.objectives, *_beside(suite, name, names)}
            others -= {BASE, name, *objectives}
            objectives |= others
            waiting += others
    return objectives


def _of_scorer(spec: Any, where: str) -> Iterator[str]:
    """The objectives whose models a scorer reads, itself or through a labeller."""
    scorer = cast(Scorer, from_yaml.build("scorer", spec, where))
    for name, asked in scorer.asks(Subject()).items():
        if isinstance(asked, RewardModel):
            yield "reward"
        elif isinstance(asked, NamedLabeller):
            place = f"{where}.{scorer.name}.{name}"
            labeller = cast(Labeller, from_yaml.build("labeller", asked.spec, place))
            yield from (model for member in labeller.judges() for model in member.beside)


def _names_of(suite: Suite, name: str) -> Iterator[Names]:
    """The names in an objective's recipe, with its fields as written and with each value that an
    axis or an override gives one; none of an unknown one, which is refused where it stands."""
    if name not in registry.names("objective"):
        return
    declared = cast(type[Objective], registry.find("objective", name))
    fields = written(suite).get(name, {})
    yield Names(declared, fields)
    axes = [(key, value) for key, values in suite.matrix.items() for value in values]
    for key, value in [*axes, *(item for rule in suite.overrides for item in rule.set.items())]:
        component_name, _, path = key.partition(".")
        if component_name == name:
            yield Names(declared, {**fields, path: value})


def _beside(suite: Suite, objective: str, names: Names) -> Iterator[str]:
    """The objectives whose models a recipe's labellers read."""
    where = place_of(suite, "objective", objective, "labeller")
    for spec in names.labellers:
        labeller, _ = from_yaml.split_spec(spec, "labeller", where)
        yield from cast(type[Labeller], registry.find("labeller", labeller, where)).beside
