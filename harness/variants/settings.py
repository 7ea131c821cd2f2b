"""Hyper-parameters by name: `component.field` set on the components of a cell."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.core import from_yaml, registry
from harness.core.errors import SuiteError, near, unknown
from harness.core.from_yaml import C
from harness.core.homes import home
from harness.suite.filters import CellFilter
from harness.suite.suite import Suite
from harness.suite.tune import Budget

Fields = dict[str, dict[str, Any]]
"""Component -> its fields as given."""
LIMITS = ("max_steps", "max_tokens", "max_seconds")
"""Fields of an objective that end its training."""


def set_fields(parts: Fields, values: Mapping[str, Any], where: str) -> None:
    """Set `component.field: value` on the components this cell has.

    Args:
        where: the place of `values`, for messages.

    Raises:
        SuiteError: a part of a field that has no parts.
    """
    for key, value in values.items():
        name, _, path = key.partition(".")
        if name not in parts:
            continue
        parts[name] = dict(parts[name])
        node: Any = parts[name]
        *outer, last = path.split(".")
        for part in outer:
            if not isinstance(node.get(part) or {}, Mapping):
                message = f"'{part}' is {node[part]!r}, and has no '{last}' in it"
                raise SuiteError(message, where=f"{where}.{key}", fix="set the whole of it")
            node[part] = dict(node.get(part) or {})
            node = node[part]
        node[last] = value


def holds(rule: CellFilter, seen: Mapping[str, str]) -> bool:
    """Whether a cell with these labels is one that the rule means."""
    return all(seen.get(axis) in [str(value) for value in values] for axis, values in rule.items())


def check_hyper(
    suite: Suite,
    hyper: Mapping[str, Any],
    trained_on: Sequence[str],
    recipes: Mapping[str, Iterable[str]],
    last: Iterable[str],
) -> None:
    """Every name in a rule, and every dotted key, must be one that the matrix has, so that a typo
    is not ignored.

    Args:
        recipes: axis -> names that the matrix may lack, and that its recipes have.
        last: objectives that train the cells' last stages, and may be tuned.

    Raises:
        SuiteError: a name or key is another one.
    """
    for error in hyper_faults(suite, hyper, trained_on, recipes, last):
        raise error


def hyper_faults(
    suite: Suite,
    hyper: Mapping[str, Any],
    trained_on: Sequence[str],
    recipes: Mapping[str, Iterable[str]],
    last: Iterable[str],
) -> Iterator[SuiteError]:
    """Everything that `check_hyper` refuses."""
    named: dict[str, Sequence[str]] = {
        "model": [str(name) for name in suite.matrix.get("model") or suite.models],
        "data": [str(name) for name in trained_on],
    }
    for axis in ("method", "objective"):
        named[axis] = [
            from_yaml.split_spec(spec, axis, f"matrix.{axis}[{index}]")[0]
            for index, spec in enumerate(suite.matrix[axis])
        ]
        for index, name in enumerate(named[axis]):  # before a rule that spells it rightly is blamed
            registry.find(axis, name, f"matrix.{axis}[{index}]")
    tunable = {*named["method"], *last}
    for index, rule in enumerate(suite.exclude):
        yield from _rule_faults(rule, named, hyper, f"exclude[{index}]")
    for axis, names in recipes.items():
        named[axis] = [*named[axis], *(name for name in names if name not in named[axis])]
    keys = [(f"matrix.{key}", key) for key in hyper]
    for index, override in enumerate(suite.overrides):
        keys += [(f"overrides[{index}].set", key) for key in override.set]
        yield from _rule_faults(override.match, named, hyper, f"overrides[{index}].match")
        for key in override.set.keys() & hyper.keys():
            yield SuiteError(
                f"'{key}' is an axis of the matrix, which would win",
                where=f"overrides[{index}].set",
                fix=f"remove it from one of the two (--set matrix.{key}=[...] sets the axis)",
            )
    if suite.tune is not None:
        yield from _rule_faults(suite.tune.match, named, hyper, "tune.match")
    yield from _space_faults(suite, hyper, tunable)
    keys += [(f"tune.space.{key}", key) for key in (suite.tune.space if suite.tune else ())]
    yield from _key_faults(keys, {*named["method"], *named["objective"]})


def _key_faults(keys: Iterable[tuple[str, str]], present: Collection[str]) -> Iterator[SuiteError]:
    """Dotted keys of components that no cell has.

    Args:
        keys: (place, key).
    """
    for where, key in keys:
        name, _, path = key.partition(".")
        if not path:
            here = home(key)
            fix = "write component.field" + (f"; {here}" if here else "")
            yield SuiteError(f"'{key}' names no field", where=where, fix=fix)
        elif name not in present:
            hint = "methods and objectives in the matrix and in its recipes"
            message = unknown("component", name, present, hint=hint)
            section = near(name, Suite.model_fields)
            fix = f"the section of the suite is called `{section}:`" if section else ""
            yield SuiteError(message, where=where, fix=fix)


def _rule_faults(
    rule: CellFilter,
    named: Mapping[str, Sequence[str]],
    hyper: Mapping[str, Any],
    where: str,
) -> Iterator[SuiteError]:
    """Names in a rule must be the matrix's own: a typo would match nothing, and say nothing."""
    for axis, values in rule.items():
        if axis in hyper:
            continue
        if axis not in named:
            yield SuiteError(unknown("axis", axis, [*named, *hyper]), where=where)
            continue
        for value in values:
            if value not in named[axis]:
                yield SuiteError(unknown(axis, str(value), named[axis]), where=f"{where}.{axis}")


def _space_faults(
    suite: Suite, hyper: Mapping[str, Any], tunable: Collection[str]
) -> Iterator[SuiteError]:
    """What is tuned is set by nothing else, or two places would say one thing; and it belongs to a
    cell's own stage, as those before it are trained once for all cells."""
    for key in suite.tune.space if suite.tune else ():
        name, _, path = key.partition(".")
        if path in ("start", "data"):
            yield SuiteError(
                f"'{key}' says what is trained, and is not tuned",
                where=f"tune.space.{key}",
                fix=f"make it an axis of the matrix: `{key}: [...]`",
            )
        if path and name not in tunable:
            message = unknown(
                "component", name, tunable, hint="methods and objectives in the matrix"
            )
            yield SuiteError(message, where=f"tune.space.{key}")
        if key in hyper:
            yield SuiteError(
                f"'{key}' is an axis of the matrix, and tuned",
                where=f"tune.space.{key}",
                fix="keep it in one of the two places",
            )
        if suite.budget is not None and key.partition(".")[2] in (*LIMITS, "num_train_epochs"):
            yield SuiteError(
                f"'{key}' is tuned, and `budget:` ends every training alike",
                where=f"tune.space.{key}",
                fix="keep it in one of the two places",
            )


def set_budget(parts: Fields, objective: str, budget: Budget) -> None:
    """End the objective's training where the suite's budget says.

    Raises:
        SuiteError: the objective has no such limit, or the cell sets one itself.
    """
    declared = registry.find("objective", objective)
    if budget.field not in declared.model_fields:
        raise SuiteError(
            f"objective '{objective}' has no {budget.field}, and cannot keep a budget of {budget}",
            where="budget",
            fix="leave the objective or the budget out",
        )
    limits = [name for name in (*LIMITS, "num_train_epochs") if name in parts[objective]]
    if limits:
        raise SuiteError(
            f"{objective}.{limits[0]} is set, and `budget:` ends every training alike",
            where="budget",
            fix="keep it in one of the two places",
        )
    unit = budget.field.removeprefix("max_")
    parts[objective] = {**parts[objective], budget.field: getattr(budget, unit)}


def with_settings(declared: C, settings: Mapping[str, Any], where: str) -> C:
    """The component with those settings that name it; itself where none does.

    Raises:
        SuiteError: a field it does not have, or a value that does not fit.
    """
    parts: Fields = {declared.name: declared.model_dump()}
    values = {key: value for key, value in settings.items() if key.split(".")[0] == declared.name}
    if not values:
        return declared
    set_fields(parts, values, where)
    place = f"{where}.{declared.name}"
    return from_yaml.build_fields(type(declared), parts[declared.name], place)
