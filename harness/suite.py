"""The suite: one YAML file, checked before anything is spent."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.checkpoint_files import CheckpointSpec
from harness.component import explain
from harness.errors import SuiteError, unknown
from harness.locate import find_suite
from harness.model_files import ModelSpec
from harness.stage import Resources
from harness.tune import Budget, Tune

_STRICT = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
AXES = ("model", "data", "method", "objective")


class Split(BaseModel):
    """Rows: a file (JSONL, JSON, CSV, TSV, Parquet, text), a hub data set, or a mixture of both.

    Files may be compressed with gzip (`rows.jsonl.gz`).
    """

    model_config = _STRICT

    path: str = ""
    """A file, `pocket/...` of the package, or `organisation/name` on the hub."""
    name: str | None = None
    """The hub data set's configuration."""
    split: str | None = None
    """The hub data set's split."""
    revision: str | None = None
    """The hub data set's commit or tag. Pin it: an unpinned one may change between runs."""
    format: Literal["jsonl", "json", "csv", "tsv", "parquet", "text"] | None = None
    """Default: told by the file's ending."""
    layout: (
        Literal[
            "text",
            "messages",
            "prompt_completion",
            "prompt",
            "preference",
            "ranked",
            "scored",
            "unpaired",
            "alpaca",
            "sharegpt",
            "hh_rlhf",
        ]
        | None
    ) = None
    """What the columns mean; default: told by their names (`harness data` shows the outcome)."""
    chat: bool = False
    """Make chats of prompts and answers that are plain strings; alpaca loses its template."""
    scale: tuple[float, float] | None = None
    """Least and greatest score that judged answers can have; a row with another is unusable."""
    weights: dict[str, float] = {}
    """Dimension -> weight (0: not counted), for answers scored in several: the mean of an answer's
    scores by weight ranks it."""
    unusable: Literal["drop", "error"] = "drop"
    """What happens to rows that make no sense in their layout (equal or empty answers, a score out
    of its scale ...): left out and counted by reason, or an error."""
    delimiter: str = "\n\n"
    """What separates the documents of a text file."""
    rows: tuple[int, int | None] | None = None
    """Take rows from the first number up to, not including, the second."""
    where: dict[str, str | int | float | bool | list[str]] = {}
    """Keep rows whose columns have these values (or one of a list)."""
    limit: int | None = Field(None, gt=0)
    """Keep at most so many rows, the first ones."""
    map: dict[str, str] = {}
    """New columns from old: `prompt: "Summarise: {dialogue}"`. With `map`, only these are read."""
    mixture: dict[str, float] = {}
    """Instead of a path: other data entries and their weights, such as `{alpaca: 3, dialogues: 1}`.
    Each next row is drawn from an entry with a probability in proportion to its weight."""
    mixture_seed: int = 0
    """Seeds the draws of a mixture."""
    mixture_stop: Literal["first_exhausted", "all_exhausted"] = "first_exhausted"
    """A mixture ends when an entry runs out, or, repeating rows, when each has been used up."""

    @model_validator(mode="after")
    def _readable_scores(self) -> Split:
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError("`scale` is the least score, then the greatest")
        weights = self.weights.values()
        if self.weights and (not any(weights) or not all(map(math.isfinite, weights))):
            raise ValueError("`weights` are numbers, not all of them 0")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Split:
        if bool(self.path) == bool(self.mixture):
            raise ValueError("rows come from a `path` or from a `mixture`: give one of them")
        if self.mixture:
            own = self.model_fields_set - _OF_MIXTURES
            if own:
                raise ValueError(f"`{min(own)}` belongs to the entries of a mixture, not to it")
            if min(self.mixture.values()) <= 0:
                raise ValueError("the weights of a mixture are greater than 0")
        return self


_OF_MIXTURES = frozenset({"mixture", "mixture_seed", "mixture_stop", "limit"})


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
        shared = {k: v for k, v in value.items() if k in Split.model_fields}
        rest: dict[str, Any] = {k: v for k, v in value.items() if k not in shared}
        mixture = {k: shared.pop(k) for k in list(shared) if k.startswith("mixture")}
        if mixture and "train" in rest:
            raise ValueError("`train` and `mixture` both name the training rows: give one of them")
        if mixture:
            rest["train"], shared = {**shared, **mixture}, {}
        for name in ("train", "validation", "test"):
            given = rest.get(name)
            if isinstance(given, str):
                given = {"path": given}
            if isinstance(given, Mapping):
                rest[name] = {**({} if "mixture" in given else shared), **given}
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
    samples: int = Field(0, ge=0)
    """Draw so many answers to each prompt beside the greedy one, for the scorers of diversity."""
    temperature: float = Field(1.0, gt=0)
    """Of the samples: logits are divided by it."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Of the samples: only the likeliest tokens that together have this probability."""
    sample_seed: int = 0
    """Of the samples. Each request has a seed of its own, made of this one, the row's id and the
    sample's number, so that a sample does not depend on what it is batched with."""

    def identity(self) -> dict[str, Any]:
        """What the answers depend on: nothing of sampling where nothing is sampled."""
        fields = self.model_dump()
        return fields if self.samples else {k: v for k, v in fields.items() if k not in _SAMPLING}


_SAMPLING = frozenset({"samples", "temperature", "top_p", "sample_seed"})


class Override(BaseModel):
    """Hyper-parameters for some cells of the matrix: the last override that matches wins."""

    model_config = _STRICT

    match: dict[str, str | int | float] = {}
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
    matrix: dict[str, list[Any]] = {}
    """Axes: model, data, method, objective, and hyper-parameters such as `lora.r`. Without it
    nothing is trained: `base` and `checkpoints` are scored."""
    overrides: list[Override] = []
    """Hyper-parameters that differ between cells."""
    exclude: list[dict[str, str | int | float]] = []
    """Cells to leave out, such as `{method: full, model: big}`."""
    reward_model: dict[str, Any] = {}
    """The one reward model of all policies: `method` (default: the matrix's lora, else lora),
    `model` (default: the cell's), `seed` (default: 0), and fields of the objective `reward`."""
    seeds: list[int] = [0]
    """Each cell is trained once a seed (initialisation and order of the rows)."""
    tune: Tune | None = None
    """Hyper-parameters that are chosen on validation rows, alike for every cell."""
    budget: Budget | None = None
    """Where every training run ends, trials included; default: as each objective says."""
    base: dict[str, Generate] = {}
    """Uses of the untrained model that the variants are compared with."""
    checkpoints: dict[str, CheckpointSpec] = {}
    """Name -> a checkpoint trained elsewhere, scored as a variant beside the others."""
    evaluate_merged: list[str] = []
    """Patterns of trained variants, such as `lora*`, that are scored a second time with the adapter
    merged into the model's whole weights: `lora-sft-merged` beside `lora-sft`."""
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

    @field_validator("checkpoints", mode="before")
    @classmethod
    def _checkpoint_shorthand(cls, value: Any) -> Any:
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
            if isinstance(key, list | dict):
                line = key_node.start_mark.line + 1
                raise SuiteError(f"line {line}: a key must be a name, not {key!r}")
            if key in seen and key_node.tag != "tag:yaml.org,2002:merge":
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
    try:
        value = yaml.load(raw, _Loader)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SuiteError(f"not YAML: {reason}", where=f"--set {setting}") from None
    head, _, rest = key.partition(".")
    if head not in Suite.model_fields:
        if not rest:
            raise SuiteError(unknown("key", key, Suite.model_fields, where="--set"))
        tree["overrides"] = [*(tree.get("overrides") or []), {"match": {}, "set": {key: value}}]
        return
    node: Any = tree
    *outer, last = key.split(".")
    if head == "matrix" and rest not in AXES:  # a hyper-parameter's name has a dot of its own
        outer, last = [head], rest
    try:
        for part in outer:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if isinstance(node, str | int | float | None):
            raise TypeError
        node[int(last) if isinstance(node, list) else last] = value
    except (TypeError, ValueError, IndexError, AttributeError):
        raise SuiteError(
            f"there is no place '{key}' in the suite",
            where=f"--set {setting}",
            fix="give the whole value above it, such as --set 'models={...}'",
        ) from None
