"""Where a key stands in a suite: which section or member of an axis has a field of this name."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel

from harness.core import registry
from harness.core.component import AXES, Component
from harness.core.errors import HarnessError, unknown
from harness.core.other_tools import instead, ours, plain, same

_FIRST = ("lora", "sft", "lm_eval", "local")
"""Members that are named before others with the same field."""
_PLACES = {"method": "matrix.method", "objective": "matrix.objective", "scorer": "scorers"}


def unknown_key(key: str, owner: type[BaseModel], where: str = "") -> str:
    """The message for a key that a section or a component does not have: the nearest of its keys,
    or the place where the key stands.

    Args:
        owner: the class with the keys that it does have.
        where: the place of the mapping with the key.
    """
    component = owner if issubclass(owner, Component) else None
    return unknown_among(key, owner.model_fields, where, list_of(owner), component)


def unknown_among(
    key: str,
    known: Iterable[str],
    where: str,
    command: str,
    owner: type[Component] | None = None,
) -> str:
    """As `unknown_key`, for keys that no one class has."""
    said = (owner.about_key(plain(key)) if owner is not None else "") or instead(key)
    here = said or ("" if same(key, known) else home(key))
    return unknown("key", key, known, where=where, command=command, here=here, sure=bool(said))


def list_of(owner: type[BaseModel]) -> str:
    """The command that lists the keys of a section or a component; empty if none does."""
    if issubclass(owner, Component):
        return f"harness list {owner.axis}s {registry.name_of(owner)}" if owner.axis in AXES else ""
    sections = (name for name, models in _sections().items() if owner in models)
    name = next(sections, "")
    return f"harness list keys {name}".removesuffix(" suite") if name else ""


def home(key: str) -> str:
    """A sentence that says where a key stands in a suite, by our name and by that of other tools,
    as one word may be both; empty if it stands nowhere."""
    asked = plain(key)
    called = ((name, _place(name)) for name in ours(asked) if name != asked)
    other = next((f"it is called `{name}` here; {place}" for name, place in called if place), "")
    return "; or ".join(filter(None, [_place(asked), other]))


def _place(key: str) -> str:
    for name, models in _sections().items():
        if key in models[0].model_fields:
            return _of_section(key, name)
    for axis in AXES:
        if members := [name for name in registry.names(axis) if key in _fields(axis, name)]:
            return _of_members(key, axis, members)
    return ""


def _of_section(key: str, name: str) -> str:
    if name == "suite":
        return f"`{key}:` is a key of the suite itself, at the beginning of a line"
    return f"`{key}` is a key of `{name}:`  (harness list keys {name})"


def _of_members(key: str, axis: str, members: Sequence[str]) -> str:
    first = next((name for name in _FIRST if name in members), members[0])
    others = [name for name in members if name != first]
    more = f", and of {', '.join(others[:4])}{' ...' if len(others) > 4 else ''}" if others else ""
    place = f" in `{_PLACES[axis]}`" if axis in _PLACES else ""
    return f"it is an option of the {axis} {first}{more}: `{first}: {{{key}: ...}}`{place}"


def _sections() -> Mapping[str, tuple[type[BaseModel], ...]]:
    """The sections of a suite. They are declared above this layer, and only looked up here, as the
    members of axes are."""
    sections: Mapping[str, tuple[type[BaseModel], ...]]
    sections = importlib.import_module("harness.suite.sections").SECTIONS
    return sections


def _fields(axis: str, name: str) -> Iterable[str]:
    try:
        return registry.find(axis, name).model_fields
    except HarnessError:  # a package that cannot be imported is not what is wrong here
        return ()
