"""Components, the members of the axes: their base class, and the marks of their fields."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

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

    def key_variables(self) -> tuple[str, ...]:
        """The environment variables that it reads keys from."""
        variable = getattr(self, "api_key_env", None)
        return () if variable is None else (variable,)

    @classmethod
    def about_key(cls, key: str) -> str:
        """What there is in the place of a key that this is asked for and does not have, as it may
        be an option of the library behind it; empty if nothing is known."""
        return ""

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
