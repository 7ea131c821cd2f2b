"""A suite's axes, checked, and the data entries they mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from harness.core import registry
from harness.core.errors import SuiteError, unknown
from harness.core.from_yaml import split_spec
from harness.core.homes import home
from harness.core.other_tools import instead
from harness.methods.base import Method
from harness.suite.suite import AXES, Suite


def check_axes(suite: Suite) -> None:
    """Whether every axis exists and names what the suite has.

    Raises:
        SuiteError: an axis or a name that does not exist, or no rows to score on.
    """
    for error in axis_faults(suite):
        raise error


def axis_faults(suite: Suite) -> Iterator[SuiteError]:
    """Everything that is wrong with the names in the matrix and in `evaluate`."""
    for axis, values in suite.matrix.items():
        where = f"matrix.{axis}"
        if axis not in AXES and "." not in axis:
            here = instead(axis) or home(axis)
            message = unknown("axis", axis, AXES, hint="or component.field", here=here)
            yield SuiteError(message, where=where)
        if not values:
            yield SuiteError("the axis is empty", where=where, fix="list at least one value")
    for axis in ("method", "objective") if suite.matrix else ():
        if axis not in suite.matrix:
            yield SuiteError(
                f"the matrix has no {axis}", where="matrix", fix=f"add `{axis}: [...]`"
            )
    yield from _unknown_names("model", suite.matrix.get("model", []), suite.models, "models")
    yield from _unknown_names("data", suite.matrix.get("data", []), suite.data, "data")
    yield from _unknown_names("data", suite.evaluate, suite.data, "data", where="evaluate")
    for name in evaluations(suite):
        if isinstance(name, str) and name in suite.data and suite.data[name].test is None:
            yield SuiteError(
                "no test rows to score on", where=f"data.{name}", fix="add `test:` or `evaluate:`"
            )


def _unknown_names(
    axis: str, named: Iterable[Any], known: Mapping[str, Any], table: str, where: str = ""
) -> Iterator[SuiteError]:
    for index, name in enumerate(named):
        if not isinstance(name, str) or name not in known:
            message = unknown(axis, str(name), known, hint=f"the keys of `{table}:`")
            yield SuiteError(message, where=where or f"matrix.{axis}[{index}]")


def compared_models(suite: Suite) -> list[str]:
    """The models of the matrix, which are compared: all of the suite's unless it names some."""
    return list(suite.matrix.get("model") or suite.models)


def trained_models(suite: Suite) -> list[str]:
    """The models of the matrix's cells. Without a method that trains at a service, models that are
    served elsewhere have no cells: they are compared as they are.

    Raises:
        SuiteError: no model is left.
    """
    methods = [_method(spec, n) for n, spec in enumerate(suite.matrix.get("method", []))]
    models = [
        name
        for name in compared_models(suite)
        if not suite.matrix or any(fits(suite, name, method) for method in methods)
    ]
    if not models and suite.matrix:
        raise SuiteError(
            "nothing can be trained: methods train models whose files are here, but for those of a"
            " service, which train models with an `endpoint`",
            where="matrix",
            fix="add a model or a method of the other kind, or leave `matrix` out: `base` is"
            " compared alone",
        )
    return models


def _method(spec: Any, number: int) -> type[Method]:
    where = f"matrix.method[{number}]"
    return cast(type[Method], registry.find("method", split_spec(spec, "method", where)[0], where))


def fits(suite: Suite, model: str, method: type[Method]) -> bool:
    """Whether a method and a model make a cell: one that trains at a service, and a served model;
    or neither."""
    return method.at_service == (suite.models[model].endpoint is not None)


def trained_on(suite: Suite) -> list[str]:
    """The data entries of the matrix's cells."""
    if not suite.matrix:
        return []
    return suite.matrix.get("data") or [n for n, d in suite.data.items() if d.train is not None]


def evaluations(suite: Suite) -> list[str]:
    """The data entries on whose test rows an untrained model is scored."""
    return (
        suite.evaluate
        or trained_on(suite)
        or [name for name, entry in suite.data.items() if entry.test is not None]
    )
