"""What is wrong with the members of axes that a suite writes down, each by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from harness.core import registry
from harness.core.errors import SuiteError
from harness.core.from_yaml import build, explain_each, split_spec


def faults_of_members(tree: Mapping[str, Any]) -> Iterator[str]:
    """A message for each mistake in the scorers, methods, objectives and the executor of a suite.

    Options of methods and objectives that overrides may set beside are not missed.

    Args:
        tree: the suite, which may have other mistakes.
    """
    matrix = tree.get("matrix")
    for axis in ("method", "objective"):
        for place, spec in _listed(matrix, axis, "matrix."):
            yield from _faults_of_part(axis, spec, place)
    for place, spec in [*_listed(tree, "scorers"), ("executor", tree.get("executor", "local"))]:
        try:
            build("executor" if place == "executor" else "scorer", spec, place)
        except SuiteError as error:
            yield str(error)


def _listed(tree: Any, key: str, above: str = "") -> Iterator[tuple[str, Any]]:
    """(place, value) of the values of a list in the suite."""
    values = tree.get(key) if isinstance(tree, Mapping) else None
    for index, value in enumerate(values if isinstance(values, list) else ()):
        yield f"{above}{key}[{index}]", value


def _faults_of_part(axis: str, spec: Any, place: str) -> Iterator[str]:
    """The mistakes in single options of a method or objective."""
    try:
        name, fields = split_spec(spec, axis, place)
        declared = registry.find(axis, name, place)
    except SuiteError as error:
        yield str(error)
        return
    try:
        declared(**fields)
    except ValidationError as error:
        own = [item for item in error.errors() if item["loc"] and item["type"] != "missing"]
        yield from explain_each(own, declared, f"{place}.{name}")
