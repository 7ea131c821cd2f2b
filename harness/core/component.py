"""Components, the members of the axes: their base class, and their registry of files and entry
points."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from harness.core.errors import HarnessError, SuiteError, shortened, unknown
from harness.core.sources import digest_of

AXES = ("method", "objective", "scorer", "executor", "labeller")


class NotHashed:
    """Marks a field that is not part of a component's identity: `label: Annotated[str, NotHashed]`.

    Use it for fields that do not change results (the address of a service, the name of a column in
    the report), and for values that the stage hashes already (a model or rows that are its input).
    """


class AddedLater:
    """Marks a field that is part of the identity only if it differs from its default: an option
    that was added later, with the behaviour from before as its default. Cached stages then stay
    valid."""


_NUMBERS = (int, float, int | None, float | None)


class Component(BaseModel):
    """A member of an axis. Its fields are the keys of its YAML, and its docstring is its help text.

    A subclass lives in `harness/<axis>s/<name>.py`, or anywhere behind an entry point of the group
    `harness.<axis>s`. Its module must not import torch or other heavy packages, since planning
    imports it.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True,
        allow_inf_nan=False,
    )  # fmt: skip

    axis: ClassVar[str] = ""
    name: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1
    """Raise it if the same fields would give other results. Cached stages then run again."""
    impl: ClassVar[str | None] = None
    """`module:attribute` of the working part, if that must subclass classes of torch or TRL."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Importable packages that it needs besides the default install."""

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_numbers(cls, values: Any) -> Any:
        """Refuse booleans for numbers: `learning_rate: yes` would be read as 1."""
        for name, value in values.items() if isinstance(values, Mapping) else ():
            known = cls.model_fields.get(name)
            if isinstance(value, bool) and known and known.annotation in _NUMBERS:
                raise ValueError(f"{name} is a number, not {str(value).lower()}")
        return values

    def identity(self) -> dict[str, Any]:
        """The part that is hashed: its name, VERSION and fields, without fields marked `NotHashed`,
        and without fields marked `AddedLater` that have their default."""
        fields = self.model_dump(mode="json", exclude=unhashed(self))
        return {"name": self.name, "version": self.VERSION, **fields}

    def runs(self) -> tuple[str, ...]:
        """The code that it runs and the servers that it asks because the suite says so: Python
        files, code from a hub, addresses. The plan shows them, for people who run a suite of
        others."""
        return ()

    @classmethod
    def source_digest(cls) -> str:
        """Digest of its source files, with all that they import from this package and from its own
        package. A change without a new VERSION causes a warning."""
        return digest_of(*cls.modules())

    @classmethod
    def modules(cls) -> tuple[str, ...]:
        """The modules with its code: the one that declares it, and the one that `impl` names."""
        return cls.__module__, (cls.impl or cls.__module__).partition(":")[0]

    def working_part(self) -> Any:
        """The object that does the work: the component itself, or the object that `impl` names.
        Only workers call this."""
        if self.impl is None:
            return self
        module, _, attribute = self.impl.partition(":")
        return getattr(importlib.import_module(module), attribute)


def unhashed(model: BaseModel) -> set[str]:
    """The fields that are not part of a model's identity, by their marks."""
    never, later = _marked(type(model))
    return {*never, *(name for name, default in later.items() if getattr(model, name) == default)}


@cache
def _marked(model: type[BaseModel]) -> tuple[frozenset[str], Mapping[str, Any]]:
    """The fields that are never hashed, and the default of each field that was added later. If a
    subclass declares such a field again, with another default, it keeps its mark."""
    marks: dict[str, list[Any]] = {}
    for ancestor in model.__mro__:
        declared = ancestor.model_fields if issubclass(ancestor, BaseModel) else {}
        for name, field in declared.items():
            marks.setdefault(name, []).extend(field.metadata)
    defaults = {name: field.get_default() for name, field in model.model_fields.items()}
    never = frozenset(name for name, metadata in marks.items() if NotHashed in metadata)
    return never, {n: defaults[n] for n, metadata in marks.items() if AddedLater in metadata}


C = TypeVar("C", bound=Component)


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
        message = unknown(axis, name, names(axis), hint=f"harness list {axis}s")
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


def build(axis: str, spec: Any, where: str) -> Component:
    """A component from its YAML: `rouge`, or `{rouge: {use_stemmer: false}}`.

    Raises:
        SuiteError: the YAML is wrong, or a package that the component needs is not installed.
    """
    name, fields = split_spec(spec, axis, where)
    declared = find(axis, name, where)
    for package in declared.requires:
        if importlib.util.find_spec(package) is None:
            raise SuiteError(
                f"{axis} '{name}' needs the package {package}, which is not installed",
                where=where,
                fix=f"pip install {package}",
            )
    return build_fields(declared, fields, f"{where}.{name}")


def split_spec(spec: Any, axis: str, where: str) -> tuple[str, dict[str, Any]]:
    """The name and the fields of a component's YAML."""
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and len(spec) == 1:
        name, fields = next(iter(spec.items()))
        if isinstance(name, str) and (fields is None or isinstance(fields, Mapping)):
            return name, dict(fields or {})
    raise SuiteError(
        f"a {axis} is a name or one name with its options, not {_short(spec)}",
        where=where,
        fix=f"write `- name` or `- name: {{option: value}}`  (harness list {axis}s)",
    )


def build_fields(
    declared: type[C],
    fields: Mapping[str, Any],
    where: str,
    places: Mapping[str, str] | None = None,
) -> C:
    """A component of a known class from its fields, with pydantic's errors made readable.

    Args:
        where: the component's place in the suite.
        places: field -> place of its value, for fields whose values are elsewhere in the suite.

    Raises:
        SuiteError: a field is wrong, or a package that the component needs is not installed.
    """
    missing = [name for name in declared.requires if importlib.util.find_spec(name) is None]
    if missing:
        raise SuiteError(
            f"{declared.axis} '{declared.name}' needs the package '{missing[0]}', which is not"
            " installed",
            where=where,
            fix=f"pip install {missing[0]}",
        )
    try:
        return declared(**fields)
    except ValidationError as error:
        raise SuiteError(explain(error, declared, where, places)) from None


def explain(
    error: ValidationError,
    model: type[BaseModel],
    where: str,
    places: Mapping[str, str] | None = None,
) -> str:
    """Pydantic's errors as sentences: place, value, choices.

    Args:
        model: the class with the wrong fields.
        where: its place in the suite.
        places: field -> place of its value, for fields whose values are not at `where`.
    """
    lines = []
    for item in error.errors():
        parts = [f"[{p}]" if isinstance(p, int) else f".{shortened(p)}"
                 for p in item["loc"] if p != "[key]"]  # fmt: skip
        elsewhere = (places or {}).get(str(item["loc"][0])) if parts else None
        if not parts:  # an error of several fields: blame the one that is set elsewhere
            words = re.findall(r"\w+", item["msg"])
            named = (place for field, place in (places or {}).items() if field in words)
            elsewhere = next((place.rpartition(".")[0] for place in named), None)
        place = "".join(parts[1:] if elsewhere else parts)
        whole = (elsewhere or where) + place
        if item["type"] == "extra_forbidden":
            key = shortened(str(item["loc"][-1]))
            owner = _owner(model, item["loc"][:-1])
            lines.append(
                unknown("key", key, owner.model_fields, where=whole.removesuffix(f".{key}"))
            )
        elif item["type"] == "missing":
            lines.append(f"{whole}: missing, and needed")
        else:
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "string_type" and (misread := _misread(item["input"])):
                message = misread
            # Our own validators name the value themselves, if it may be shown: it could be a secret
            # key that was pasted.
            ours = item["type"] in ("value_error", "assertion_error")
            shown = f" (given: {_short(item['input'])})" if item["loc"] and not ours else ""
            lines.append(f"{whole}: {message[0].lower()}{message[1:]}{shown}")
    lines = list(dict.fromkeys(lines))
    more = [f"  and {len(lines) - _MOST} more of such"] if len(lines) > _MOST else []
    return "\n".join(lines[:_MOST] + more)


_MOST = 10
"""The most mistakes in one message."""


def _misread(value: Any) -> str:
    """A message that YAML read an unquoted text as another type; empty if the value is of no such
    type."""
    if isinstance(value, bool):
        return (
            "a text is needed, but YAML reads on, off, yes, no, true and false as booleans;"
            " quote it, such as 'off'"
        )
    if isinstance(value, int | float):
        return (
            f"a text is needed, but YAML reads a number; quote it as you write it, as in '{value}'"
        )
    if value is None:
        return (
            "a text is needed, but YAML reads nothing, null and ~ as no value; quote it, such as ''"
        )
    return ""


def _owner(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The pydantic model that has a wrong key, as far as the annotations show."""
    for part in loc:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        inner = _models_in(field.annotation)
        if inner:
            model = inner[0]
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]


def _short(value: Any) -> str:
    """A value as in YAML, cut to a length that fits a message."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return shortened(repr(value), 60)
