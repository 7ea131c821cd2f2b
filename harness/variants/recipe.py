"""A cell of the matrix with its recipe: what is trained for it, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, cast

from harness.core import from_yaml, registry
from harness.core.errors import HarnessError, SuiteError, unknown
from harness.core.homes import unknown_among
from harness.labellers.base import Labeller
from harness.objectives.base import BASE, Objective
from harness.suite.suite import Suite
from harness.variants.names import adapter, place_of
from harness.variants.spec import Spec, method_of, objective_of, within_budget
from harness.variants.steps import Beside, Labelled, Made, Sampled, Step, Trained
from harness.variants.variant import Cell

REWARD = "reward"
"""The objective that trains the reward model, which `reward_model:` describes."""
_BESIDE = ("method", "model", "seed")
"""Keys of `reward_model:` that are no fields of the objective."""

_TOLD_BY: Mapping[type, str] = {
    Trained: "train", Beside: "model", Sampled: "sample", Labelled: "label", Made: "stage",
}  # fmt: skip
"""Kind of step -> the method of a recipe that gives it."""


@dataclass(frozen=True)
class _Given:
    """What one recipe gives to that of another objective, in the place of what this would take."""

    start: Trained | None
    rows: Labelled | Made | None
    models: Mapping[str, Beside]


class Steps:
    """The steps of an objective's recipe, with what the suite sets for each of its objectives.

    Attributes:
        names: of the method, and of all objectives in the recipe and before it.
        models: objectives that train the models beside the cell's own.
        moved: where it starts, if not where the recipe says; else empty.
        last: the training that ends the recipe.
    """

    def __init__(
        self, suite: Suite, spec: Spec, several: Sequence[str], path: tuple[str, ...] = ()
    ) -> None:
        """Make the steps.

        Args:
            several: axes of which a variant's name holds the value.
            path: the objective, and those that start from it; by default the cell's own, alone.

        Raises:
            SuiteError: a field or a value that cannot be meant, or a start that is none.
        """
        self._suite, self._spec, self._several = suite, spec, several
        self._path = path or (spec.labels["objective"],)
        name, fields = self._path[0], spec.written if path else spec.fields
        self._asked = objective_of(suite, spec, name, fields.get(name, {}))
        self._entry = self._asked.data or spec.labels["data"]
        self._given: _Given | None = None
        self.names, self.moved = {spec.labels["method"], name}, ""
        self.models: dict[str, None] = {}
        last = self._asked.recipe(self)
        if not isinstance(last, Trained):
            raise HarnessError(f"the recipe of {name} must return what it ends in, a training")
        self.last = replace(last, group=self._group(name))

    @property
    def applied(self) -> dict[str, Any]:
        """The hyper-parameters of the matrix that the recipe has."""
        hyper = self._spec.hyper.items()
        return {key: value for key, value in hyper if key.split(".")[0] in self.names}

    def start(self, objective: Objective, default: str = BASE) -> Trained | None:
        """As `Recipe.start`."""
        if self._given is not None:
            return self._given.start
        name = objective.start or default
        self.moved = name if name != default else ""
        if name == BASE:
            return None
        _require_start(self._suite, name, self._path)
        before = Steps(self._suite, self._spec, self._several, (name, *self._path))
        self.names |= before.names
        self.models |= before.models
        return before.last

    def train(
        self,
        objective: Objective | str,
        *,
        start: Trained | None = None,
        rows: Labelled | Made | None = None,
        reference: Mapping[str, Any] | None = None,
        **models: Beside,
    ) -> Trained:
        """As `Recipe.train`."""
        self._require("goes on from", start, Trained)
        self._require("trains on", rows, Labelled, Made)
        for model in models.values():
            self._require("reads, as a model beside a training,", model, Beside)
        if isinstance(objective, str):
            self.names.add(objective)
            within = copy(self)
            within._given = _Given(start, rows, models)
            fields = self._spec.written.get(objective, {})
            other = objective_of(self._suite, self._spec, objective, fields)
            return cast(Trained, other.recipe(within))
        if self._given is not None:
            rows, models = rows or self._given.rows, {**models, **self._given.models}
        objective = within_budget(self._suite, self._spec, objective)
        group = self._group(objective.name)
        return Trained(objective, group, self._entry, start, rows, reference, models)

    def model(self, objective: str, rows: Labelled | Made | None = None) -> Beside:
        """As `Recipe.model`."""
        self._require("trains a model on", rows, Labelled, Made)
        self.names.add(objective)
        self.models[objective] = None
        return Beside(objective, rows)

    def sample(self, policy: Trained | None, **options: Any) -> Sampled:
        """As `Recipe.sample`."""
        self._require("samples", policy, Trained)
        return Sampled(self._asked, policy, self._entry, options)

    def label(
        self, samples: Sampled, *, by: Any, check: int = 0, truth: str | None = None, **options: Any
    ) -> Labelled:
        """As `Recipe.label`."""
        self._require("labels", samples, Sampled)
        where = place_of(self._suite, "objective", self._asked.name, "labeller")
        labeller = cast(Labeller, from_yaml.build("labeller", by, where))
        for objective in labeller.beside:
            self.model(objective)
        return Labelled(self._asked, samples, labeller, options, check, truth)

    def stage(self, kind: str, *, reads: Mapping[str, Step] | None = None, **fields: Any) -> Made:
        """As `Recipe.stage`."""
        inputs = {role: step for role, step in (reads or {}).items() if step is not None}
        for step in inputs.values():
            self._require(
                f"has a stage of kind '{kind}' read", step, Trained, Sampled, Labelled, Made
            )
        return Made(self._asked, kind, self._entry, inputs, fields)

    def _require(self, verb: str, step: object, *kinds: type) -> None:
        """Raise SuiteError where a recipe names another kind of step than it can mean."""
        if step is not None and not isinstance(step, kinds):
            means = " or ".join(f"`{_TOLD_BY[kind]}`" for kind in kinds)
            given = f"`{_TOLD_BY[type(step)]}`" if type(step) in _TOLD_BY else repr(step)
            raise SuiteError(
                f"it {verb} what {given} gave",
                where=f"the recipe of {self._asked.name}",
                fix=f"pass on what {means} gave",
            )

    def _group(self, name: str) -> str:
        """What a training is called: the method and the name, and what else tells cells apart."""
        labels, applied = self._spec.labels, self.applied
        group = "-".join([labels["method"], name, *(labels[axis] for axis in self._several)])
        if self.moved and f"{name}.start" not in applied:
            group += f"-start={self.moved}"
        return group + "".join(f"-{k.split('.')[-1]}={_shown(v)}" for k, v in applied.items())


def _require_start(suite: Suite, name: str, path: Sequence[str]) -> None:
    """Whether a training can start from what an objective trains.

    Args:
        path: the objective that starts there, and those that start from it.

    Raises:
        SuiteError: there is none of this name, it leaves no policy, or it comes after it.
    """
    where, known = place_of(suite, "objective", path[0], "start"), registry.names("objective")
    if name not in known:
        others = [other for other in known if other != path[0]]
        raise SuiteError(unknown("start", name, [BASE, *others]), where=where)
    if cast(type[Objective], registry.find("objective", name)).head == "score":
        raise SuiteError(
            f"'{name}' leaves a model that scores, and nothing that writes can start from it",
            where=where,
            fix="start from base, cpt or sft",
        )
    if name in path:
        names = " -> ".join([name, *path])
        raise SuiteError(f"the recipe starts from itself: {names}", where=where)


def cell_of(suite: Suite, spec: Spec, several: Sequence[str]) -> Cell:
    """The cell that is meant, with the models beside it, which are cells of their own.

    Args:
        several: axes of which a variant's name holds the value.

    Raises:
        SuiteError: a field or a value that cannot be meant, or a start that is none.
    """
    # Once to know which hyper-parameters are the cell's: rules are held against these alone.
    spec = replace(spec, hyper=Steps(suite, spec, several).applied)
    method = method_of(suite, spec)
    steps = Steps(suite, spec, several)
    labels = {**spec.labels, **{key: str(value) for key, value in spec.hyper.items()}}
    if steps.moved:
        labels["start"] = steps.moved
    return Cell(
        id=steps.last.group,
        group=steps.last.group,
        model=spec.labels["model"],
        data=spec.labels["data"],
        method=method,
        recipe=steps.last,
        models={name: cell_beside(suite, spec, name, several) for name in steps.models},
        generate=suite.generate,
        evaluations=(),
        labels=labels,
    )


def cell_beside(suite: Suite, spec: Spec, objective: str, several: Sequence[str]) -> Cell:
    """A model beside a cell (the reward model), as a cell of its own.

    It is shared by all cells of one model and data entry: of the matrix's axes only those that
    name its own objective reach it. Its SFT is that of its own method.

    Raises:
        SuiteError: a key of its section that cannot be meant.
    """
    section = suite.reward_model if objective == REWARD else {}
    where = f"{objective}_model"
    method, options = from_yaml.split_spec(
        section.get("method", adapter(suite)), "method", f"{where}.method"
    )
    registry.find("method", method, f"{where}.method")
    model = section.get("model", spec.labels["model"])
    if str(model) not in suite.models:
        message = unknown("model", str(model), suite.models, hint="the keys of `models:`")
        raise SuiteError(message, where=f"{where}.model")
    seed = section.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        message = f"a seed is a whole number from 0 to {2**32 - 1:,}, not {seed!r}"
        raise SuiteError(message, where=f"{where}.seed")
    fields = {key: value for key, value in section.items() if key not in _BESIDE}
    known = [*_BESIDE, *registry.find("objective", objective).model_fields]
    for key in fields:
        if key not in known:
            command = f"harness list objectives {objective}"
            raise SuiteError(unknown_among(key, known, where, command))
    places = {"objective": where, **({"method": f"{where}.method.{method}"} if options else {})}
    beside = Spec(
        labels={**spec.labels, "model": model, "method": method, "objective": objective},
        fields={method: options, objective: {**spec.written.get(objective, {}), **fields}},
        written=spec.written,
        hyper={k: v for k, v in spec.hyper.items() if k.split(".")[0] == objective},
        where=places if objective == REWARD else {},
    )
    return replace(cell_of(suite, beside, several), seed=seed)


def _shown(value: Any) -> Any:
    """A value of an axis in a name; a component with options as name(option=value)."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, options),) = value.items()
        if isinstance(options, Mapping):
            return f"{name}({','.join(f'{k}={v}' for k, v in options.items())})"
    return value


def refuse_scores(objective: str, where: str) -> None:
    """A model that writes nothing has no answers to compare."""
    declared = cast(type[Objective], registry.find("objective", objective))
    if declared.head == "score":
        raise SuiteError(
            f"'{objective}' trains a model that scores and writes no answers, so it is no variant",
            where=where,
            fix=f"describe it in `{objective}_model:`; it is trained for the objectives that need"
            " one, and its record tells its accuracy",
        )
