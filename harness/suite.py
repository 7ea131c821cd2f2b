"""The suite: one YAML file, checked before anything is spent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.component import explain
from harness.errors import SuiteError, unknown
from harness.locate import find_suite
from harness.model_files import ModelSpec
from harness.stage import Resources
from harness.tune import Budget, Tune

_STRICT = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
AXES = ("model", "data", "method", "objective")


class Split(BaseModel):
    """Rows: a file (JSONL, JSON, CSV, Parquet, text) or a data set on the hub."""

    model_config = _STRICT

    path: str
    """A file, `pocket/...` of the package, or `organisation/name` on the hub."""
    name: str | None = None
    """The hub data set's configuration."""
    split: str | None = None
    """The hub data set's split."""
    revision: str | None = None
    """The hub data set's commit or tag. Pin it: an unpinned one may change between runs."""
    format: Literal["jsonl", "json", "csv", "parquet", "text"] | None = None
    """Default: told by the file's ending."""
    delimiter: str = "\n\n"
    """What separates the documents of a text file."""
    rows: tuple[int, int | None] | None = None
    """Take rows from the first number up to, not including, the second."""
    where: dict[str, str | int | float | bool | list[str]] = {}
    """Keep rows whose columns have these values (or one of a list)."""
    limit: int | None = Field(None, gt=0)
    """Keep at most so many rows, the first ones."""
    map: dict[str, str] = {}
    """New columns from old: `prompt: "Summarise: {dialogue}"`."""


class DataSpec(BaseModel):
    """Splits of one data set. Validation data is for tuning, test data for the report alone."""

    model_config = _STRICT

    train: Split | None = None
    """Rows to train on."""
    validation: Split | None = None
    """Rows to choose by."""
    test: Split | None = None
    """Rows that every variant is scored on."""

    @model_validator(mode="before")
    @classmethod
    def _share_options(cls, value: Any) -> Any:
        """Options given beside the splits hold for each of them."""
        if isinstance(value, str):
            return {"train": {"path": value}}
        if not isinstance(value, Mapping):
            return value
        shared = {k: v for k, v in value.items() if k in Split.model_fields and k != "split"}
        rest: dict[str, Any] = {k: v for k, v in value.items() if k not in shared}
        for name in ("train", "validation", "test"):
            given = rest.get(name)
            if isinstance(given, str):
                given = {"path": given}
            if isinstance(given, Mapping):
                rest[name] = {**shared, **given}
        return rest


class Generate(BaseModel):
    """How answers are generated. Names as in transformers and lm-eval."""

    model_config = _STRICT

    max_new_tokens: int = Field(128, gt=0)
    """Tokens after which an answer is cut; the share of cut answers is reported."""
    until: list[str] = []
    """Stop strings; the answer ends before the first of them."""
    num_fewshot: int = Field(0, ge=0)
    """Worked examples before the question, drawn from the training rows of the same group."""
    apply_chat_template: bool = True
    """Prompt with the tokenizer's chat template; else as plain text."""
    target_delimiter: str = "\n"
    """Between a plain prompt and its answer."""
    fewshot_delimiter: str = "\n\n"
    """Between plain examples."""
    batch_tokens: int = Field(16384, gt=0)
    """Tokens of a batch: rows times (longest prompt + max_new_tokens)."""


class Override(BaseModel):
    """Hyper-parameters for some cells of the matrix: the last override that matches wins."""

    model_config = _STRICT

    match: dict[str, str] = {}
    """Axis -> name, such as `{method: lora}`; empty matches all."""
    set: dict[str, Any]
    """`sft.learning_rate: 1e-3`: a component, a dot, its field."""


class Suite(BaseModel):
    """Models x data x methods x objectives x hyper-parameters x seeds, and how to score them."""

    model_config = _STRICT

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the report's folder."""
    description: str = ""
    """One paragraph for the report's head."""
    models: dict[str, ModelSpec]
    """Name -> model."""
    data: dict[str, DataSpec]
    """Name -> splits."""
    matrix: dict[str, list[Any]]
    """Axes: model, data, method, objective, and hyper-parameters such as `lora.r`."""
    overrides: list[Override] = []
    """Hyper-parameters that differ between cells."""
    exclude: list[dict[str, str]] = []
    """Cells to leave out, such as `{method: full, model: big}`."""
    seeds: list[int] = [0]
    """Each cell is trained once a seed (initialisation and order of the rows)."""
    tune: Tune | None = None
    """Hyper-parameters that are chosen on validation rows, alike for every cell."""
    budget: Budget | None = None
    """Where every training run ends, trials included; default: as each objective says."""
    base: dict[str, Generate] = {}
    """Uses of the untrained model that the variants are compared with."""
    baseline: str | None = None
    """Variant all others are compared with; default: the first of `base`, else the first cell."""
    evaluate: list[str] = []
    """Data entries whose test rows every variant is scored on; default: the variant's own."""
    generate: Generate = Generate()
    """How trained variants answer."""
    scorers: list[Any] = ["rouge", "exact_match"]
    """What is measured."""
    executor: Any = "local"
    """Where it runs."""
    resources: Resources = Resources()
    """What a stage may use, trackers included; not part of any stage's identity."""

    @field_validator("models", mode="before")
    @classmethod
    def _model_shorthand(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: {"path": v} if isinstance(v, str) else v for k, v in value.items()}
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: list[int]) -> list[int]:
        if not value or len(set(value)) != len(value):
            raise ValueError("at least one seed, each once")
        return value


class Loaded(BaseModel):
    """A suite and the file it came from, for messages and paths."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    suite: Suite
    path: Path
    text: str


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice, and reads 1e-3 as the number it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise SuiteError(f"line {key_node.start_mark.line + 1}: key {key!r} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*([eE][-+]?\d+)|\d+\.\d*|\.\d+([eE][-+]?\d+)?)$"),
    list("-+0123456789."),
)


def load_suite(name: str, settings: Sequence[str] = ()) -> Loaded:
    """Read and check a suite; `settings` are `key=value` changes from the command line.

    Raises:
        SuiteError: naming file, place, value and fix, all in one go.
    """
    path = find_suite(name)
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.load(text, _Loader)
    except UnicodeDecodeError as error:
        raise SuiteError(
            f"not UTF-8 text (byte {error.start})", where=str(path), fix="save the file as UTF-8"
        ) from None
    except yaml.YAMLError as error:
        raise SuiteError(f"not YAML: {' '.join(str(error).split())}", where=str(path)) from None
    except SuiteError as error:
        raise SuiteError(error.message, where=str(path), fix=error.fix) from None
    if not isinstance(tree, dict):
        raise SuiteError("a suite is a mapping of keys", where=str(path), fix="see harness init")
    for setting in settings:
        _apply(tree, setting)
    try:
        suite = Suite.model_validate(tree)
    except ValidationError as error:
        raise SuiteError(_placed(explain(error, Suite, ""), path)) from None
    return Loaded(suite=suite, path=path, text=text)


def _placed(message: str, path: Path) -> str:
    lines = message.split("\n")
    return "\n".join(
        line if line.startswith("  ") else f"{path}: {line.lstrip('.').removeprefix(': ')}"
        for line in lines
    )


def _apply(tree: dict[str, Any], setting: str) -> None:
    """One `--set key=value`. The key is a path in the YAML, or component.field for all cells."""
    key, equals, raw = setting.partition("=")
    if not equals or not key:
        raise SuiteError(f"--set {setting!r} is not key=value", fix="such as --set seeds=[0,1,2]")
    value = yaml.load(raw, _Loader)
    head, _, rest = key.partition(".")
    if head not in Suite.model_fields:
        if not rest:
            raise SuiteError(unknown("key", key, Suite.model_fields, where="--set"))
        tree.setdefault("overrides", []).append({"match": {}, "set": {key: value}})
        return
    node: Any = tree
    parts = key.split(".")
    for part in parts[:-1]:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    last = parts[-1]
    if isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value
