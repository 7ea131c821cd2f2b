"""Components from their YAML, and what is wrong with it in sentences."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.core.component import Component
from harness.core.errors import SuiteError, joined, shortened, unknown
from harness.core.homes import unknown_key
from harness.core.registry import find

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

C = TypeVar("C", bound=Component)


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
    key = "- " if where.endswith("]") else f"{where.rpartition('.')[2]}: "
    options = "name: {option: value}"
    options = options if where.endswith("]") else f"{{{options}}}"
    raise SuiteError(
        f"{'an' if axis[0] in 'aeiou' else 'a'} {axis} is a name or one name with its options, not"
        f" {_short(spec)}",
        where=where,
        fix=f"write `{key}name` or `{key}{options}`  (harness list {axis}s)",
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
    return joined(explain_each(error.errors(), model, where, places))


def explain_each(
    errors: Iterable[ErrorDetails],
    model: type[BaseModel],
    where: str,
    places: Mapping[str, str] | None = None,
) -> list[str]:
    """As `explain`: a sentence for each of these errors."""
    return [_sentence(item, model, where, places or {}) for item in errors]


def _sentence(
    item: ErrorDetails, model: type[BaseModel], where: str, places: Mapping[str, str]
) -> str:
    whole = _place(item, where, places)
    if item["type"] == "extra_forbidden":
        key = shortened(str(item["loc"][-1]))
        owner = _owner(model, item["loc"][:-1])
        return unknown_key(key, owner, whole.removesuffix(f".{key}"))
    if item["type"] == "missing":
        return f"{whole}: missing, and needed"
    if item["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", item.get("ctx", {}).get("expected", ""))
        given = item["input"] if isinstance(item["input"], str) else _short(item["input"])
        return unknown("value", given, choices, where=whole)
    wanted = next((w for start, w in _WANTED.items() if item["type"].startswith(start)), "")
    message = wanted or item["msg"].removeprefix("Value error, ")
    if wanted == _A_LIST and isinstance(item["input"], str | int | float):
        return f"{whole}: a list is needed, `[{_short(item['input']).strip(_QUOTES)}]`"
    if item["type"] == "string_pattern_mismatch":
        message = _form(model, item["loc"]) or message
    if item["type"] == "string_type" and (misread := _misread(item["input"])):
        message = misread
    # Our own validators name the value themselves, if it may be shown: it could be a secret key
    # that was pasted.
    ours = item["type"] in ("value_error", "assertion_error")
    shown = f" (given: {_short(item['input'])})" if item["loc"] and not ours else ""
    return f"{whole}: {message[0].lower()}{message[1:]}{shown}"


def _place(item: ErrorDetails, where: str, places: Mapping[str, str]) -> str:
    """The place of an error in the suite."""
    parts = [f"[{p}]" if isinstance(p, int) else f".{shortened(p)}"
             for p in item["loc"] if p != "[key]"]  # fmt: skip
    elsewhere = places.get(str(item["loc"][0])) if parts else None
    if not parts:  # an error of several fields: blame the one that is set elsewhere
        words = re.findall(r"\w+", item["msg"])
        named = (place for field, place in places.items() if field in words)
        elsewhere = next((place.rpartition(".")[0] for place in named), None)
    return (elsewhere or where) + "".join(parts[1:] if elsewhere else parts)


_QUOTES = "'\""
_A_MAPPING, _A_LIST = "a mapping is needed, `{key: value}`", "a list is needed, `[one, two]`"
_WANTED = {
    "dict_": _A_MAPPING, "model_": _A_MAPPING, "mapping_": _A_MAPPING, "dataclass_": _A_MAPPING,
    "list_type": _A_LIST, "tuple_type": _A_LIST, "set_type": _A_LIST,
    "int_": "a whole number is needed", "float_": "a number is needed",
    "bool_": "true or false is needed", "string_type": "a text is needed",
}  # fmt: skip
"""How a type of pydantic's errors begins -> what is needed, in the words of YAML."""


def _form(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """What a text must look like, by the field's examples; empty without any. A regular expression
    tells few people."""
    field = _owner(model, loc[:-1]).model_fields.get(str(loc[-1])) if loc else None
    forms = " or ".join(map(str, (field.examples if field is not None else None) or ()))
    return f"this must look like {forms}" if forms else ""


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
