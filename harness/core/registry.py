"""The members of the axes by their names: files of this package, and entry points of others."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness.core.component import Component
from harness.core.errors import HarnessError, SuiteError, unknown
from harness.core.other_tools import instead


@cache
def _entry_points(axis: str) -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"harness.{axis}s")}


def brought_by(declared: type[Component]) -> str:
    """The installed package that brings a member; empty for a member of this package."""
    point = _entry_points(declared.axis).get(declared.name)
    if point is None or point.value.startswith("harness."):
        return ""
    return point.dist.name if point.dist is not None else point.value


def names(axis: str) -> list[str]:
    """The names of all members of an axis, first those of this package. No module is imported."""
    ours = _ours(axis)
    return [*ours, *sorted(set(_entry_points(axis)) - set(ours))]


@cache
def _ours(axis: str) -> tuple[str, ...]:
    package = importlib.import_module(f"harness.{axis}s")
    modules = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(name for name in modules if not name.startswith("_") and name != "base")


def from_elsewhere(axis: str) -> dict[str, str]:
    """Name -> module of the members that other packages bring. None of them is imported."""
    return {name: point.module for name, point in sorted(_entry_points(axis).items())}


def find(axis: str, name: str, where: str = "") -> type[Component]:
    """The class of the member `name` of an axis.

    Raises:
        SuiteError: the name is unknown, and the message has the nearest one; the package that
            brings it cannot be imported; or several bring one of this name.
    """
    if name not in names(axis):
        command, here = f"harness list {axis}s", instead(name)
        message = unknown(axis, name, names(axis), command=command, here=here)
        raise SuiteError(message, where=where)
    _refuse_clash(axis, name, where)
    point = _entry_points(axis).get(name)
    declared = (
        _loaded(point, axis, where)
        if point
        else _member(importlib.import_module(f"harness.{axis}s.{name}"))
    )
    if not (
        inspect.isclass(declared) and issubclass(declared, Component) and declared.axis == axis
    ):
        raise SuiteError(f"entry point {name!r} is no {axis}: {declared!r}", where=where)
    if "name" not in vars(declared):
        declared.name = name
    return declared


@cache
def _packages(axis: str) -> Mapping[str, frozenset[str]]:
    """Name of a member -> the packages that bring it, this one aside."""
    packages: dict[str, set[str]] = {}
    for point in entry_points(group=f"harness.{axis}s"):
        if not point.value.startswith("harness."):
            package = point.dist.name if point.dist is not None else point.module
            packages.setdefault(point.name, set()).add(package)
    return {name: frozenset(brought) for name, brought in packages.items()}


def _refuse_clash(axis: str, name: str, where: str) -> None:
    """Two members of one name would be cached under one key, and read as one another."""
    packages = sorted(_packages(axis).get(name, ()))
    if name in _ours(axis):
        packages.insert(0, "harness itself")
    if len(packages) > 1:
        raise SuiteError(
            f"several packages bring a {axis} called '{name}': {', '.join(packages)}",
            where=where,
            fix="uninstall one of them, or rename its entry point",
        )


def _loaded(point: EntryPoint, axis: str, where: str) -> Any:
    """What an entry point names."""
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        package = point.dist.name if point.dist is not None else point.module
        raise SuiteError(
            f"{axis} '{point.name}' of the package {package} cannot be imported: {error}",
            where=where,
            fix=f"repair the package, whose entry point is {point.value}, or do without it",
        ) from error


def name_of(declared: type[Component]) -> str:
    """The name of a member, even if `find` was not called for it before.

    Raises:
        HarnessError: it is not registered.
    """
    if "name" not in vars(declared):
        package, _, module = declared.__module__.rpartition(".")
        if package == f"harness.{declared.axis}s":
            declared.name = module
        else:
            place = f"{declared.__module__}:{declared.__qualname__}"
            points = _entry_points(declared.axis).items()
            names_here = [name for name, point in points if point.value == place]
            if not names_here:
                raise HarnessError(
                    f"{place} is no known {declared.axis}",
                    fix=f"register it as an entry point of the group harness.{declared.axis}s",
                )
            declared.name = names_here[0]
    return declared.name


def _member(module: Any) -> type[Component]:
    """The one Component that a module of this package defines."""
    declared = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Component)
        and value.__module__ == module.__name__
    ]
    if len(declared) != 1:
        raise HarnessError(f"{module.__name__} must define one component, not {len(declared)}")
    return declared[0]
