"""The keys of a suite, section by section: for people, and as a JSON Schema for editors. Both are
made of the fields that check a suite, and of their own documentation."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from harness.core import component
from harness.core.errors import SuiteError, unknown
from harness.models.checkpoint import CheckpointSpec
from harness.models.files import ModelSpec
from harness.suite.data import DataSpec, Split
from harness.suite.suite import AXES, Generate, Override, OwnResources, Suite
from harness.suite.tune import Budget, Range, Tune

SECTIONS: Mapping[str, tuple[type[BaseModel], ...]] = {
    "suite": (Suite,),
    "models": (ModelSpec,),
    "data": (DataSpec, Split),
    "base": (Generate,),
    "generate": (Generate,),
    "overrides": (Override,),
    "tune": (Tune, Range),
    "budget": (Budget,),
    "checkpoints": (CheckpointSpec,),
    "resources": (OwnResources,),
}
"""Section -> what it is made of; `suite` is the file as a whole."""
_REF = "#/$defs/{model}"


def listing(section: str | None) -> str:
    """The keys of a section with their documentation; of the whole file where none is named.

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
    """A model's fields as lines: name, default, documentation."""
    lines = []
    for name, field in model.model_fields.items():
        default = "needed" if field.is_required() else _shown(field.get_default())
        lines.append(f"  {name} = {default}")
        lines += textwrap.wrap(
            field.description or "", 88, initial_indent="      ", subsequent_indent="      "
        )
    return lines


def _shown(value: Any) -> str:
    """A default as YAML has it; a section's own keys are listed where it stands."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "its own defaults" if isinstance(value, BaseModel) else repr(value)


def _summary(model: type[BaseModel]) -> list[str]:
    return textwrap.wrap(" ".join((inspect.getdoc(model) or "").split()), 92)


def schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of suites, plugins that are installed here included."""
    made = Suite.model_json_schema(ref_template=_REF)
    defs: dict[str, Any] = made["$defs"]
    for axis in component.AXES:
        defs |= _axis(axis)
    keys = made["properties"]
    _hyper(keys, defs)
    text = {"type": "string"}
    split = defs["DataSpec"]["properties"]
    for name in ("train", "validation", "test"):
        split[name]["anyOf"].insert(0, text)
    # Options beside the splits hold for each of them.
    split |= {k: v for k, v in defs["Split"]["properties"].items() if k not in split}
    for section, model in (("models", "ModelSpec"), ("checkpoints", "CheckpointSpec"),
                           ("data", "DataSpec")):  # fmt: skip
        keys[section]["additionalProperties"] = {"anyOf": [text, _ref(model)]}
    keys["scorers"]["items"] = _ref("scorer")
    keys["executor"] |= _ref("executor")
    defs["CheckpointSpec"]["properties"]["method"] |= {"anyOf": [_ref("method"), {"type": "null"}]}
    for rule in (keys["exclude"]["items"], defs["Override"]["properties"]["match"]):
        listed = rule["additionalProperties"]
        rule["additionalProperties"] = {"anyOf": [listed, *listed["items"]["anyOf"]]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "A suite of finetune-harness",
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _axis(axis: str) -> dict[str, Any]:
    """The definitions of an axis: its members' options, and how one is named."""
    defs: dict[str, Any] = {}
    named: dict[str, Any] = {}
    names = component.names(axis)
    for name in names:
        made = component.find(axis, name).model_json_schema(ref_template=_REF)
        defs |= made.pop("$defs", {})
        defs[f"{axis} {name}"] = made
        named[name] = {"anyOf": [_ref(f"{axis} {name}"), {"type": "null"}]}
        if "labeller" in made["properties"]:
            made["properties"]["labeller"] |= _ref("labeller")
    one = {"type": "object", "properties": named, "additionalProperties": False,
           "minProperties": 1, "maxProperties": 1}  # fmt: skip
    defs[axis] = {"anyOf": [{"enum": names}, one]}
    return defs


def _hyper(keys: dict[str, Any], defs: dict[str, Any]) -> None:
    """The matrix, what overrides set, and the reward model: keys that are names of others."""
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
    own = {"method": _ref("method"), "model": {"type": "string"}, "seed": {"type": "integer"}}
    reward = defs["objective reward"]["properties"]
    keys["reward_model"] |= {"properties": {**reward, **own}, "additionalProperties": False}
