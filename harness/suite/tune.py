"""Tuning: what `tune:` and `budget:` say, and the trials that follow. Nothing here sees a score but
through the history it is given."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core import component
from harness.core.errors import SuiteError
from harness.core.fields import Seed

_STRICT = ConfigDict(
    extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
)
_DIGITS = 4
"""Significant digits of a drawn number: enough to tune by, and few enough to type again."""
_DRAWS = 1000
"""Draws for one trial before the ranges count as exhausted."""
Settings = dict[str, Any]
"""`component.field` -> value: what one trial sets."""


class Range(BaseModel):
    """Numbers to choose from: integers where both ends are, else floats."""

    model_config = _STRICT

    low: int | float
    """The smallest value."""
    high: int | float
    """The largest value; it may be chosen too."""
    log: bool = False
    """Spread evenly over the logarithm, as rates want it."""

    @model_validator(mode="after")
    def _spans(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithm needs low above 0, not {self.low}")
        return self

    @property
    def whole(self) -> bool:
        """Whether its values are integers."""
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
    """Hyper-parameters chosen on validation rows, with as many trials for every cell alike."""

    model_config = _STRICT

    trials: int = Field(gt=0)
    """Configurations tried for each combination of model, data, method and objective."""
    space: dict[str, list[Any] | Range]
    """`component.field` -> values to choose from, or `{low: 1e-4, high: 1e-2, log: true}`. Entries
    for components that a cell does not have are left out for it."""
    metric: str
    """What is optimised: a metric of one of the suite's scorers, on validation rows."""
    search: Literal["grid", "random", "optuna"] = "random"
    """`grid`: every combination, ranges divided evenly, and of more than there are trials a draw of
    each cell's own; `random`: drawn from the space, the same draws of a field for every method;
    `optuna`: TPE, told the results after every batch."""
    seeds: list[Seed] = [0]
    """Training seeds of a trial; its value is the mean over them. A variant with one of these seeds
    is not trained again."""
    data: str | None = None
    """Data entry whose validation rows judge; default: the scorer's own, else the cell's."""
    batch: int = Field(4, gt=0)
    """With optuna: trials asked for at once, before any of their results is known."""
    seed: Seed = 0
    """Of the draws."""

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
    """The same end for every training run, trials included: one of steps, tokens or seconds."""

    model_config = _STRICT

    steps: int | None = Field(None, gt=0)
    """Optimizer steps."""
    tokens: int | None = Field(None, gt=0)
    """Tokens the model sees, padding excluded; a run stops at the step where they are reached."""
    seconds: float | None = Field(None, gt=0)
    """Seconds of training; such runs do not repeat bit for bit."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.steps, self.tokens, self.seconds)) != 1:
            raise ValueError("a budget is one of steps, tokens or seconds")
        return self

    @property
    def field(self) -> str:
        """The objective's field that keeps it."""
        return next(f"max_{unit}" for unit, value in self if value is not None)

    @property
    def amount(self) -> float:
        """How many steps, tokens or seconds."""
        return float(next(value for _, value in self if value is not None))

    def __str__(self) -> str:
        return f"{self.amount:,g} {self.field.removeprefix('max_')}"


Space = Mapping[str, list[Any] | Range]


def propose(
    tune: Tune, space: Space, history: Sequence[float | None], higher_is_better: bool
) -> list[Settings]:
    """The trials that are known by now: all of them, or with optuna those up to the next batch.

    The same arguments give the same trials, and a longer history only adds some.

    Args:
        space: the part of the tuning's space that one cell has.
        history: values of the first trials, in order; None for one that failed.

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
    """Ranges get as many points as it takes; of a grid that is too large, an even draw."""
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
    """The draws of a component's fields depend on that component alone: cells that share it share
    them, trial by trial, whatever else they tune.

    Each field has a stream of its own, and a component's settings that were drawn before are drawn
    again. Where a component has fewer settings than there are trials, an objective's come in turn
    (a b c a b c) and a method's stand in blocks (x x y y z z). With n and m of them, n m >= trials,
    no two trials are then alike: a block has at most ceil(trials / m) <= n trials, and among n in a
    row the objective's settings differ.
    """
    objectives = component.names("objective")
    parts: dict[bool, Space] = {True: {}, False: {}}
    for key, choices in space.items():
        own = key.split(".")[0] in objectives
        parts[own] = {**parts[own], key: choices}
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
    """As many different settings as there are trials, or all that the space has."""
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
    """Play the study again from its start: batches of asks, each followed by its tells."""
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
    found: list[Settings] = []
    for first in range(0, tune.trials, tune.batch):
        if len(history) < first:
            break
        asked = [study.ask(distributions) for _ in range(min(tune.batch, tune.trials - first))]
        found += [_settings(trial.params, space) for trial in asked]
        for trial, value in zip(asked, history[first:], strict=False):
            if value is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, value)
    return found


def _distribution(optuna: Any, choices: list[Any] | Range) -> Any:
    if isinstance(choices, list):
        # By position: a choice may be a list, such as target_modules, which optuna refuses.
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
