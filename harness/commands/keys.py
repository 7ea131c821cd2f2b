"""The keys of a suite: as text for people (`harness list keys`), and as a JSON Schema for editors.

Both come from the pydantic fields that validate a suite and from their documentation.
"""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from pydantic import BaseModel

from harness.core import component, registry
from harness.core.errors import SuiteError, unknown
from harness.suite.sections import SECTIONS
from harness.suite.suite import AXES, Suite

_REF = "#/$defs/{model}"


def listing(section: str | None) -> str:
    """The keys of a section with their documentation.

    Args:
        section: a name in SECTIONS; None for the keys of the whole file.

    Raises:
        SuiteError: there is no such section.
    """
    name = section or "suite"
    if name not in SECTIONS:
        raise SuiteError(unknown("section", name, SECTIONS, hint="harness list keys SECTION"))
    lines: list[str] = []
    for model in SECTIONS[name]:
        lines += [*_summary(model), *options(model), ""]
    if name == "suite":
        others = ", ".join(key for key in SECTIONS if key != "suite")
        lines.append(f"one section in full: harness list keys SECTION, of: {others}")
        lines.append(
            "members of the matrix, scorers and executors: harness list methods, and so on"
        )
    return "\n".join(lines).rstrip()


def options(model: type[BaseModel]) -> list[str]:
    """The fields of a model as lines: name, default, documentation."""
    lines = []
    for name, field in model.model_fields.items():
        default = "needed" if field.is_required() else _shown(field.get_default())
        lines.append(f"  {name} = {default}")
        lines += textwrap.wrap(
            field.description or "", 88, initial_indent="      ", subsequent_indent="      "
        )
    return lines


def _shown(value: Any) -> str:
    """A default as it is written in YAML; the keys of a section are listed with the section."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "its own defaults" if isinstance(value, BaseModel) else repr(value)


def _summary(model: type[BaseModel]) -> list[str]:
    return textwrap.wrap(" ".join((inspect.getdoc(model) or "").split()), 92)


def schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of suites, which includes the installed plugins."""
    built = Suite.model_json_schema(ref_template=_REF)
    defs: dict[str, Any] = built["$defs"]
    for axis in component.AXES:
        defs |= _axis(axis)
    keys = built["properties"]
    _hyper(keys, defs)
    text = {"type": "string"}
    split = defs["DataSpec"]["properties"]
    for name in ("train", "validation", "test"):
        split[name]["anyOf"].insert(0, text)
    # Options beside the splits apply to each of them.
    split |= {k: v for k, v in defs["Split"]["properties"].items() if k not in split}
    for section, model in (("models", "ModelSpec"), ("checkpoints", "CheckpointSpec"),
                           ("data", "DataSpec")):  # fmt: skip
        keys[section]["additionalProperties"] = {"anyOf": [text, _ref(model)]}
    keys["scorers"]["items"] = _ref("scorer")
    keys["claims"]["items"] = {"anyOf": [text, _ref("Claim")]}
    keys["executor"] |= _ref("executor")
    defs["CheckpointSpec"]["properties"]["method"] |= {"anyOf": [_ref("method"), {"type": "null"}]}
    selectors = (
        option
        for side in ("variant", "than")
        for option in defs["Claim"]["properties"][side]["anyOf"]
        if option.get("type") == "object"
    )
    for rule in (
        keys["exclude"]["items"], defs["Override"]["properties"]["match"], *selectors
    ):  # fmt: skip
        listed = rule["additionalProperties"]
        rule["additionalProperties"] = {"anyOf": [listed, *listed["items"]["anyOf"]]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **built,
        "title": "A suite of finetune-harness",
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _axis(axis: str) -> dict[str, Any]:
    """The definitions of an axis: the options of its members, and how a suite names a member."""
    defs: dict[str, Any] = {}
    named: dict[str, Any] = {}
    names = registry.names(axis)
    for name in names:
        member = registry.find(axis, name).model_json_schema(ref_template=_REF)
        defs |= member.pop("$defs", {})
        defs[f"{axis} {name}"] = member
        named[name] = {"anyOf": [_ref(f"{axis} {name}"), {"type": "null"}]}
        if "labeller" in member["properties"]:
            member["properties"]["labeller"] |= _ref("labeller")
    one = {"type": "object", "properties": named, "additionalProperties": False,
           "minProperties": 1, "maxProperties": 1}  # fmt: skip
    defs[axis] = {"anyOf": [{"enum": names}, one]}
    return defs


def _hyper(keys: dict[str, Any], defs: dict[str, Any]) -> None:
    """Adds the sections with keys that are not fields: the matrix, overrides, the reward model."""
    dotted = r"^\w+\.."
    values = {"type": "array", "minItems": 1}
    keys["matrix"] |= {
        "properties": {
            axis: {**values, "items": _ref(axis) if axis in component.AXES else {"type": "string"}}
            for axis in AXES
        },
        "patternProperties": {dotted: values},
        "additionalProperties": False,
    }
    defs["Override"]["properties"]["set"]["propertyNames"] = {"pattern": dotted}
    options_of_reward = {
        **defs["objective reward"]["properties"],
        "method": _ref("method"),
        "model": {"type": "string"},
        "seed": {"type": "integer"},
    }
    keys["reward_model"] |= {"properties": options_of_reward, "additionalProperties": False}
