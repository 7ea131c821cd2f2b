"""Tuning: the suite's `tune:` and `budget:`, and the proposed trials. Scores only enter through the
argument `history`."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core import registry
from harness.core.errors import SuiteError
from harness.core.fields import Seed
from harness.suite.filters import CellFilter

_STRICT = ConfigDict(
    extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
)
_DIGITS = 4
"""Significant digits of a drawn number: enough for tuning, and short to type."""
_DRAWS = 1000
"""The most draws for one trial; then the ranges count as exhausted."""
Settings = dict[str, Any]
"""`component.field` -> value: the settings of one trial."""


class Range(BaseModel):
    """A range of numbers to choose from: integers if both ends are integers, else floats."""

    model_config = _STRICT

    low: int | float
    """The smallest value."""
    high: int | float
    """The largest value, included."""
    log: bool = False
    """Whether the logarithm is uniform, as is usual for learning rates."""

    @model_validator(mode="after")
    def _spans(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithm needs low above 0, not {self.low}")
        return self

    @property
    def whole(self) -> bool:
        """True if its values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, share: float) -> int | float:
        """The value at a share (0 to 1) of the range."""
        if self.log:
            value = float(self.low * (self.high / self.low) ** share)
        else:
            value = float(self.low + share * (self.high - self.low))
        if self.whole:
            return min(max(round(value), int(self.low)), int(self.high))
        return min(max(float(f"{value:.{_DIGITS}g}"), float(self.low)), float(self.high))


class Tune(BaseModel):
    """Hyper-parameters that are chosen on validation rows, with the same number of trials for every
    cell."""

    model_config = _STRICT

    trials: int = Field(gt=0)
    """The number of configurations tried for each combination of model, data, method and
    objective."""
    match: CellFilter = {}
    """Axis -> name or names: the cells that are tuned, such as `{objective: [dpo, ppo]}`; the
    others keep what the suite gives them. Empty: all cells."""
    space: dict[str, list[Any] | Range]
    """`component.field` -> values to choose from, or `{low: 1e-4, high: 1e-2, log: true}`. Each
    cell uses only the entries of its own components."""
    metric: str
    """The metric that is optimised, of one of the suite's scorers, on validation rows."""
    search: Literal["grid", "random", "optuna"] = "random"
    """`grid`: all combinations, with ranges divided evenly; if there are more combinations than
    trials, a random choice for each cell. `random`: random values, the same ones of a field for
    every method. `optuna`: TPE, which gets the results after every batch."""
    seeds: list[Seed] = [0]
    """The training seeds of a trial; its value is the mean over them. A variant with one of these
    seeds is not trained again."""
    data: str | None = None
    """The data entry with the validation rows; default: the scorer's data, else the cell's."""
    batch: int = Field(4, gt=0)
    """With optuna: the number of trials that are proposed at once, before their results are
    known."""
    seed: Seed = 0
    """The seed of the draws."""

    @field_validator("space")
    @classmethod
    def _fields(cls, value: dict[str, list[Any] | Range]) -> dict[str, list[Any] | Range]:
        if not value:
            raise ValueError("the space is empty; name at least one component.field")
        for key, choices in value.items():
            if not all(key.partition(".")):
                raise ValueError(f"'{key}' is not component.field, such as sft.learning_rate")
            if isinstance(choices, list) and not choices:
                raise ValueError(f"{key} has no values")
            if isinstance(choices, list) and any(c in choices[:i] for i, c in enumerate(choices)):
                raise ValueError(f"{key} has a value twice")
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: list[int]) -> list[int]:
        if not value or len(set(value)) != len(value):
            raise ValueError("at least one seed, each once")
        return value


class Budget(BaseModel):
    """The same length for every training run, trials included, in one of steps, tokens or
    seconds."""

    model_config = _STRICT

    steps: int | None = Field(None, gt=0)
    """Optimizer steps."""
    tokens: int | None = Field(None, gt=0)
    """Tokens that the model reads, without padding; a run stops at the step that reaches them."""
    seconds: float | None = Field(None, gt=0)
    """Seconds of training; such runs do not give the same bits again."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.steps, self.tokens, self.seconds)) != 1:
            raise ValueError("a budget is one of steps, tokens or seconds")
        return self

    @property
    def field(self) -> str:
        """The objective's field that holds the budget, such as `max_steps`."""
        return next(f"max_{unit}" for unit, value in self if value is not None)

    @property
    def amount(self) -> float:
        """The number of steps, tokens or seconds."""
        return float(next(value for _, value in self if value is not None))

    def __str__(self) -> str:
        return f"{self.amount:,g} {self.field.removeprefix('max_')}"


Space = Mapping[str, list[Any] | Range]


def propose(
    tune: Tune, space: Space, history: Sequence[float | None], higher_is_better: bool
) -> list[Settings]:
    """The trials that can be proposed now: all of them; with optuna, those up to the next batch.

    The same arguments give the same trials, and a longer history only adds trials.

    Args:
        space: the part of the tuning's space that one cell uses.
        history: the values of the first trials, in order; None for a trial that failed.
        higher_is_better: whether the metric is maximised.

    Raises:
        SuiteError: the space has fewer configurations than trials, or optuna is not installed.
    """
    if tune.search == "optuna":
        return _ask_optuna(tune, space, history, higher_is_better)
    size = math.prod(_size(choices) for choices in space.values())
    if size < tune.trials:
        raise SuiteError(
            f"{', '.join(space)} have {size:.0f} configurations, fewer than {tune.trials} trials",
            where="tune.space",
            fix="add values or a range, or lower tune.trials: every method gets as many",
        )
    return _grid(tune, space) if tune.search == "grid" else _random(tune, space)


def _size(choices: list[Any] | Range) -> float:
    if isinstance(choices, list):
        return len(choices)
    return int(choices.high) - int(choices.low) + 1 if choices.whole else math.inf


def _grid(tune: Tune, space: Space) -> list[Settings]:
    """Ranges are divided into as many points as needed. If the grid is larger than the number of
    trials, a uniform draw from it."""
    points = 1
    while True:
        axes = [_points(choices, points) for choices in space.values()]
        if math.prod(map(len, axes)) >= tune.trials:
            break
        points += 1
    cells = list(itertools.product(*axes))
    draw = random.Random(f"{tune.seed} grid")
    chosen = sorted(draw.sample(range(len(cells)), tune.trials))
    return [dict(zip(space, cells[index], strict=True)) for index in chosen]


def _points(choices: list[Any] | Range, count: int) -> list[Any]:
    if isinstance(choices, list):
        return choices
    if count == 1:
        return [choices.at(0.5)]
    return list(dict.fromkeys(choices.at(i / (count - 1)) for i in range(count)))


def _random(tune: Tune, space: Space) -> list[Settings]:
    """Random trials. The values of a component's fields depend on that component alone: all cells
    with this component get the same values in the same trial, whatever else they tune.

    Each field has its own random stream. If a component's settings repeat earlier ones, they are
    drawn again. If a component has fewer settings than there are trials, they must repeat: those of
    an objective in turn (a b c a b c), those of a method in blocks (x x y y z z). With n settings
    of the objective, m of the method and n m >= trials, no two trials are then equal: a block has
    at most ceil(trials / m) <= n trials, and any n trials in a row have different settings of the
    objective.
    """
    objectives = registry.names("objective")
    parts: dict[bool, Space] = {True: {}, False: {}}
    for key, choices in space.items():
        of_objective = key.split(".")[0] in objectives
        parts[of_objective] = {**parts[of_objective], key: choices}
    turns, blocks = _different(tune, parts[True]), _different(tune, parts[False])
    trials = [
        turns[i % len(turns)] | blocks[i * len(blocks) // tune.trials] for i in range(tune.trials)
    ]
    if any(settings in trials[:i] for i, settings in enumerate(trials)):
        raise SuiteError(
            f"the ranges of {', '.join(space)} are too narrow for {tune.trials} different trials",
            where="tune.space",
            fix="widen them, or lower tune.trials",
        )
    return [{key: settings[key] for key in space} for settings in trials]


def _different(tune: Tune, space: Space) -> list[Settings]:
    """Different settings, as many as there are trials, or all settings of the space if it has
    fewer."""
    streams = {key: random.Random(f"{tune.seed} {key}") for key in space}
    wanted = min(tune.trials, math.prod(_size(choices) for choices in space.values()))
    drawn: list[Settings] = []
    for _ in range(_DRAWS * tune.trials):
        settings = {key: _draw(choices, streams[key]) for key, choices in space.items()}
        if settings not in drawn:
            drawn.append(settings)
        if len(drawn) == wanted:
            break
    return drawn


def _draw(choices: list[Any] | Range, stream: random.Random) -> Any:
    share = stream.random()
    if isinstance(choices, list):
        return choices[int(share * len(choices))]
    return choices.at(share)


def _ask_optuna(
    tune: Tune, space: Space, history: Sequence[float | None], higher_is_better: bool
) -> list[Settings]:
    """Repeat the study from its start: in each batch, ask for trials, then tell their results."""
    try:
        import optuna
    except ImportError:
        raise SuiteError(
            "search: optuna needs the package optuna, which is not installed",
            where="tune.search",
            fix="pip install 'finetune-harness[tune]', or search: random",
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize" if higher_is_better else "minimize",
        sampler=optuna.samplers.TPESampler(seed=tune.seed, n_startup_trials=tune.batch),
    )
    distributions = {key: _distribution(optuna, choices) for key, choices in space.items()}
    proposed: list[Settings] = []
    for first in range(0, tune.trials, tune.batch):
        if len(history) < first:
            break
        asked = [study.ask(distributions) for _ in range(min(tune.batch, tune.trials - first))]
        proposed += [_settings(trial.params, space) for trial in asked]
        for trial, value in zip(asked, history[first:], strict=False):
            if value is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, value)
    return proposed


def _distribution(optuna: Any, choices: list[Any] | Range) -> Any:
    if isinstance(choices, list):
        # By index, since a choice may be a list, such as target_modules, which optuna refuses.
        return optuna.distributions.CategoricalDistribution(tuple(range(len(choices))))
    if choices.whole:
        return optuna.distributions.IntDistribution(
            int(choices.low), int(choices.high), log=choices.log
        )
    return optuna.distributions.FloatDistribution(choices.low, choices.high, log=choices.log)


def _settings(params: Mapping[str, Any], space: Space) -> Settings:
    return {
        key: choices[params[key]] if isinstance(choices, list) else params[key]
        for key, choices in space.items()
    }
