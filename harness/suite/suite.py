"""The suite: one YAML file, which is checked before anything runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from harness.core.component import AddedLater, unhashed
from harness.core.errors import ModelError, SuiteError, joined, placed
from harness.core.fields import Name, Seed
from harness.core.from_yaml import explain_each
from harness.core.locate import find_suite
from harness.core.secrecy import require_none, require_none_in
from harness.models.checkpoint import CheckpointSpec
from harness.models.spec import ModelSpec
from harness.store.stage import Resources
from harness.suite.claims import Claim
from harness.suite.data import DataSpec
from harness.suite.filters import CellFilter
from harness.suite.members import faults_of_members
from harness.suite.settings import apply_setting
from harness.suite.text import read_file
from harness.suite.tune import Budget, Tune
from harness.suite.worker_env import Environment

_STRICT = ConfigDict(
    extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
)
AXES = ("model", "data", "method", "objective")


class Generate(BaseModel):
    """How answers are generated. The options are named as in transformers and lm-eval."""

    model_config = _STRICT

    max_new_tokens: int = Field(128, gt=0)
    """The most tokens of an answer. The share of answers that were cut is reported."""
    until: list[str] = []
    """Stop strings. The answer ends before the first of them."""
    num_fewshot: int = Field(0, ge=0)
    """The number of examples before the question, drawn from the training rows of the same
    group."""
    apply_chat_template: bool = True
    """Write prompts with the tokenizer's chat template; if false, as plain text."""
    system_instruction: Annotated[str | None, AddedLater] = None
    """A system prompt before examples and question, in the place of a row's own; before a plain
    prompt it is text."""
    target_delimiter: str = "\n"
    """The text between a plain prompt and its answer."""
    fewshot_delimiter: str = "\n\n"
    """The text between plain examples."""
    thinking: Annotated[Literal["auto", "strip", "keep"], AddedLater] = "auto"
    """What happens to the thinking at the beginning of an answer. `auto`: the answers of a model
    with thinking are scored without it; an answer that was cut during its thinking is empty. A
    model has thinking if its chat template has the marks (`<think>`, `[THINK]` ...), if `<think>`
    is one token, or if the prompt ends with it; for other models the marks are words. `strip`:
    thinking in `<think>` is removed for every model. `keep`: nothing is removed. predictions.jsonl
    always holds the whole text as `generated`."""
    batch_tokens: int = Field(16384, gt=0)
    """The most tokens of a batch: its rows times (longest prompt + max_new_tokens)."""
    samples: int = Field(0, ge=0)
    """The number of sampled answers to each prompt besides the greedy one, for scorers of
    diversity."""
    temperature: float = Field(1.0, gt=0)
    """The temperature of the samples: logits are divided by it."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Samples use only the likeliest tokens that together have this probability."""
    sample_seed: Seed = 0
    """The seed of the samples. Each request has its own seed, computed from this one, the row's id
    and the sample's number, so that a sample does not depend on the other rows of its batch."""

    def identity(self) -> dict[str, Any]:
        """What the answers depend on: nothing of sampling where nothing is sampled."""
        return self.model_dump(exclude=unhashed(self) | (set() if self.samples else _SAMPLING))


_SAMPLING = frozenset({"samples", "temperature", "top_p", "sample_seed"})


class Override(BaseModel):
    """Hyper-parameters for some cells of the matrix. The last override that matches a cell wins."""

    model_config = _STRICT

    match: CellFilter = {}
    """Axis -> name or names, such as `{method: [lora, dora]}`; empty matches all cells."""
    set: dict[str, Any]
    """Component, dot, field -> value, such as `sft.learning_rate: 1e-3`."""


class OwnResources(Resources):
    """The resources that a suite may give to a stage."""

    env: Environment = {}
    """Environment variables for the worker, only such as tune libraries. Never put a secret here:
    they are written to disk."""


class Suite(BaseModel):
    """Models x data x methods x objectives x hyper-parameters x seeds, and how they are scored."""

    model_config = _STRICT

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80, examples=["my-suite_1.0"]
    )
    """The name of the suite and of its report's folder."""
    description: str = ""
    """One paragraph for the beginning of the report."""
    models: dict[Name, ModelSpec]
    """Name -> model; or one model's path alone, whose last part is its name."""
    data: dict[Name, DataSpec] = {}
    """Name -> splits. May be left out where scorers bring their own examples, as lm_eval does."""
    matrix: dict[str, list[Any]] = {}
    """Axes: model, data, method, objective, and hyper-parameters such as `lora.r`. Without a matrix
    nothing is trained; only `base` and `checkpoints` are scored."""
    overrides: list[Override] = []
    """Hyper-parameters that differ between cells."""
    exclude: list[CellFilter] = []
    """Cells to leave out, such as `{method: full, objective: [dpo, ppo]}`."""
    reward_model: dict[str, Any] = {}
    """The one reward model of all policies: its `method` (default: the matrix's lora, else lora),
    `model` (default: the cell's model), `seed` (default: 0), and fields of the objective
    `reward`."""
    seeds: list[Seed] = [0]
    """Each cell is trained once for each seed, which sets the initialisation and the order of the
    rows."""
    tune: Tune | None = None
    """Hyper-parameters that are chosen on validation rows, in the same way for every cell."""
    budget: Budget | None = None
    """The length of every training run, trials included; default: as each objective says."""
    base: dict[Name, Generate] = {}
    """Name -> a way to use the untrained model, with which the variants are compared."""
    checkpoints: dict[str, CheckpointSpec] = {}
    """Name -> a checkpoint trained elsewhere, which is scored as a variant beside the others."""
    evaluate_merged: list[str] = []
    """Patterns of the names of trained variants, such as `lora*`. These variants are scored a
    second time with the adapter merged into the model's weights: `lora-sft-merged` beside
    `lora-sft`."""
    baseline: str | None = None
    """The variant with which all others are compared; default: the first of `base`, else the first
    cell. With several models, the name of a use in `base`, such as `zero-shot`, means this use of
    the variant's own model; `zero-shot@NAME` means this use of the model NAME for all variants. If
    only models are compared, the default is the first use of the first model for all."""
    evaluate: list[str] = []
    """Data entries with the test rows on which every variant is scored; default: the variant's own
    entry."""
    generate: Generate = Generate()
    """How trained variants generate answers."""
    scorers: list[Any] = ["rouge", "exact_match"]
    """The scorers that measure the variants."""
    claims: list[Claim] = []
    """What the suite states about its variants; the report opens with a verdict on each. One line
    each, such as `lora not_worse full on rougeL by 0.01`, or a mapping."""
    correction: Literal["holm", "bh"] = "holm"
    """How p is adjusted over the claims: `holm` keeps the chance of any wrong verdict within the
    claims' error, `bh` the share of wrong ones among the verdicts."""
    executor: Any = "local"
    """The executor that runs the stages."""
    resources: OwnResources = OwnResources()
    """The resources of a stage, trackers included. They are not part of a stage's identity."""

    @model_validator(mode="before")
    @classmethod
    def _models_alone(cls, tree: Any) -> Any:
        """Models alone, without rows of the suite's own, are scored as they are."""
        if isinstance(tree, Mapping):
            if not any(tree.get(key) for key in ("data", "matrix", "base", "checkpoints")):
                return {**tree, "base": {"zero-shot": {}}}
            known = not tree.keys() - cls.model_fields.keys()  # else a misspelt key is told
            if known and tree.get("matrix") and not tree.get("data"):
                raise ValueError("data: there are no rows to train on; add an entry with `train:`")
        return tree

    @field_validator("models", mode="before")
    @classmethod
    def _model_shorthand(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {Path(value).name or value: value}
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
    """A suite and its file."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    suite: Suite
    path: Path
    text: str
    settings: dict[str, str] = {}
    """Place in the suite -> the `--set` that wrote its value."""

    @contextlib.contextmanager
    def boundary(self) -> Iterator[None]:
        """Put the suite's file, or the `--set` that caused the error, before the messages of the
        errors of the block.

        Raises:
            SuiteError, ModelError: the errors of the block, with their new messages.
        """
        try:
            yield
        except (SuiteError, ModelError) as error:
            raise type(error)(placed(str(error), str(self.path), self.settings)) from None


def load_suite(name: str, settings: Sequence[str] = ()) -> Loaded:
    """Read and check a suite.

    Args:
        name: a path, or the name of a suite of the package.
        settings: changes `key=value` from the command line.

    Raises:
        SuiteError: the suite is wrong; the message names all faults, with file, place, value and
            fix.
    """
    path = find_suite(name)
    tree, text = read_file(path)
    require_none(text, str(path))
    for setting in settings:
        require_none(setting, "--set")
    if not isinstance(tree, dict):
        raise SuiteError("a suite is a mapping of keys", where=str(path), fix="see harness init")
    keys = Suite.model_fields
    places = {apply_setting(tree, setting, keys, AXES): setting for setting in settings}
    require_none_in(tree, str(path))
    try:
        suite = Suite.model_validate(tree)
    except ValidationError as error:
        others = faults_of_members(tree)
        messages = [placed(m, str(path), places)
                    for m in (*explain_each(error.errors(), Suite, ""), *others)]  # fmt: skip
        raise SuiteError(joined(messages)) from None
    return Loaded(suite=suite, path=path, text=text, settings=places)
