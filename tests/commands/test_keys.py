"""The keys of a suite are listed for people and told to editors, by what checks suites itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from harness.cli import main
from harness.commands import keys
from harness.core import component, registry
from harness.core.locate import packaged_suites
from harness.suite.suite import Suite
from harness.suite.text import read_yaml
from tests.fuzz_suites import suites

SCHEMA = keys.schema()
KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
         "integer": int, "number": (int, float)}  # fmt: skip
READ = {"type", "properties", "patternProperties", "additionalProperties", "propertyNames", "items",
        "anyOf", "enum", "const", "$ref", "required", "minProperties", "maxProperties", "minItems",
        "maxItems", "prefixItems", "pattern", "minLength", "maxLength", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum", "default", "description", "title", "$defs",
        "$schema", "uniqueItems", "examples"}  # fmt: skip


def wrong(value: Any, schema: dict[str, Any], place: str = "") -> str:
    """Where a value is not as the schema has it; empty where it is. Of JSON Schema's keywords those
    that ours has, and no others."""
    assert set(schema) <= READ, set(schema) - READ
    if "$ref" in schema:
        return wrong(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], place)
    if "anyOf" in schema and all(wrong(value, one, place) for one in schema["anyOf"]):
        return f"{place}: none of several fits"
    kind = schema.get("type")
    truth = isinstance(value, bool) and kind in ("integer", "number")
    if kind is not None and (truth or not isinstance(value, KINDS[kind])):
        return f"{place}: no {kind}"
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return f"{place}: not in {schema}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return f"{place}: not {schema['pattern']}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("exclusiveMinimum", -2e99), schema.get("exclusiveMaximum", 2e99)
        if not (low < value < high and value >= schema.get("minimum", value)):
            return f"{place}: out of range"
    if isinstance(value, list):
        each = (wrong(one, schema.get("items", {}), f"{place}[{i}]") for i, one in enumerate(value))
        return next(filter(None, each), "")
    return _keys(value, schema, place) if isinstance(value, dict) else ""


def _keys(value: dict[str, Any], schema: dict[str, Any], place: str) -> str:
    missing = set(schema.get("required", [])) - set(value)
    if missing or len(value) > schema.get("maxProperties", len(value)):
        return f"{place}: {missing or 'too many'}"
    for key, one in value.items():
        if problem := wrong(key, schema.get("propertyNames", {}), f"{place}.{key}"):
            return problem
        patterns = schema.get("patternProperties", {}).items()
        fitting = [inner for pattern, inner in patterns if re.search(pattern, key)]
        inner = schema.get("properties", {}).get(key) or next(iter(fitting), None)
        if inner is None:
            inner = schema.get("additionalProperties", True)
            if inner is False:
                return f"{place}.{key}: unknown"
            inner = {} if inner is True else inner
        if problem := wrong(one, inner, f"{place}.{key}"):
            return problem
    return ""


COMMITTED = list(packaged_suites().values())


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_every_committed_suite_is_one_by_the_schema(path: Path) -> None:
    assert not wrong(read_yaml(path.read_text(encoding="utf-8")), SCHEMA)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"scorer": ["rouge"]}, ".scorer: unknown"),
        ({"scorers": ["ruge"]}, ".scorers[0]"),
        ({"scorers": [{"rouge": {"use_stemer": True}}]}, ".scorers[0]"),
        ({"matrix": {"method": [{"lora": {"rank": 4}}]}}, ".matrix.method[0]"),
        ({"matrix": {"methods": ["lora"]}}, ".matrix.methods: unknown"),
        ({"data": {"x": {"trian": "a.jsonl"}}}, ".data.x"),
        ({"generate": {"max_new_tokens": 0}}, ".generate.max_new_tokens: out of range"),
        ({"overrides": [{"set": {"rank": 4}}]}, ".overrides[0].set.rank"),
        ({"reward_model": {"learning_rat": 4}}, ".reward_model.learning_rat: unknown"),
        ({"resources": {"gpu": 4}}, ".resources.gpu: unknown"),
        ({"executor": {"local": {"slot": 2}}}, ".executor"),
        ({"claims": [{"metric": "bleu", "variant": "lora", "relation": "beter"}]}, ".claims[0]"),
    ],
)
def test_mistakes_are_marked_by_the_schema(change: dict[str, Any], place: str) -> None:
    tree = {**suites()["pocket/demo"], **change}
    assert wrong(tree, SCHEMA).startswith(place)


@pytest.mark.parametrize(
    "change",
    [
        {"models": {"m": "Qwen/Qwen3-0.6B"}},
        {"data": {"x": "rows.jsonl"}},
        {"data": {"x": {"path": "p", "map": {"prompt": "{a}"}, "train": {"rows": [0, None]}}}},
        {"exclude": [{"method": "full", "objective": ["dpo", "ppo"]}]},
        {"matrix": {"method": ["lora"], "objective": [{"sft": None}], "lora.r": [4, 8]}},
        {"matrix": {"objective": [{"rlaif": {"labeller": {"judge": {"model": "m"}}}}]}},
        {"tune": {"trials": 2, "metric": "x", "space": {"lora.r": {"low": 1, "high": 8}}}},
        {"checkpoints": {"mine": "folder"}},
        {
            "claims": [
                "lora better full on bleu",
                {
                    "metric": "bleu",
                    "relation": "at_most",
                    "variant": {"method": "lora", "lora.r": [4, 8]},
                    "than": 3,
                    "ratio": "60%",
                },
            ]
        },
        {"reward_model": {"method": {"lora": {"r": 4}}, "seed": 1, "max_steps": 3}},
    ],
)
def test_every_way_of_writing_is_one_by_the_schema(change: dict[str, Any]) -> None:
    assert not wrong({**suites()["pocket/demo"], **change}, SCHEMA)


@pytest.mark.parametrize("section", keys.SECTIONS)
def test_every_key_of_every_section_is_listed_with_what_it_means(section: str) -> None:
    done = CliRunner().invoke(main, ["list", "keys", section])
    assert done.exit_code == 0, done.output
    for model in keys.SECTIONS[section]:
        for name, field in model.model_fields.items():
            assert re.search(rf"^  {name} = ", done.output, re.M), name
            assert field.description, f"{section}.{name} has no documentation"


def test_unknown_section_is_refused_with_the_sections() -> None:
    done = CliRunner().invoke(main, ["list", "keys", "dat"])
    assert done.exit_code == 2
    assert "did you mean 'data'" in done.output


def test_schema_is_printed_and_has_every_member(tmp_path: Path) -> None:
    printed = json.loads(CliRunner().invoke(main, ["schema"]).stdout)
    assert printed == SCHEMA
    for axis in component.AXES:
        assert printed["$defs"][axis]["anyOf"][0]["enum"] == registry.names(axis)
    assert set(printed["properties"]) == set(Suite.model_fields)


def test_init_writes_a_suite_whose_editor_finds_the_schema(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    done = CliRunner().invoke(main, ["init", str(file)])
    assert done.exit_code == 0, done.output
    first = file.read_text(encoding="utf-8").splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=./")
    assert json.loads((tmp_path / named).read_text(encoding="utf-8")) == SCHEMA
    assert not wrong(yaml.safe_load(file.read_text(encoding="utf-8")), SCHEMA)
