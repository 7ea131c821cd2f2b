"""The suite: one YAML file, checked before anything is spent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from harness.core.component import AddedLater, explain, unhashed
from harness.core.errors import ModelError, SuiteError, placed
from harness.core.fields import Name, Seed
from harness.core.locate import find_suite
from harness.core.secrecy import require_none, require_none_in
from harness.models.checkpoint import CheckpointSpec
from harness.models.files import ModelSpec
from harness.store.stage import Resources
from harness.suite.data import DataSpec
from harness.suite.settings import apply_setting
from harness.suite.text import read_yaml
from harness.suite.tune import Budget, Tune
from harness.suite.worker_env import Environment

_STRICT = ConfigDict(
    extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
)
AXES = ("model", "data", "method", "objective")


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
    thinking: Annotated[Literal["auto", "strip", "keep"], AddedLater] = "auto"
    """What becomes of thinking that an answer begins with. `auto`: the answers of a model that
    knows thinking are scored without it, and one that is cut while it thinks is empty. A model
    knows it where its chat template has the marks (`<think>`, `[THINK]` ...), where `<think>` is a
    token of its own, or where the prompt ends in it; to others they are words. `strip`: every model
    knows `<think>`. `keep`: nothing is taken out. All of it stays in predictions.jsonl as
    `generated`."""
    batch_tokens: int = Field(16384, gt=0)
    """Tokens of a batch: rows times (longest prompt + max_new_tokens)."""
    samples: int = Field(0, ge=0)
    """Draw so many answers to each prompt beside the greedy one, for the scorers of diversity."""
    temperature: float = Field(1.0, gt=0)
    """Of the samples: logits are divided by it."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Of the samples: only the likeliest tokens that together have this probability."""
    sample_seed: Seed = 0
    """Of the samples. Each request has a seed of its own, made of this one, the row's id and the
    sample's number, so that a sample does not depend on what it is batched with."""

    def identity(self) -> dict[str, Any]:
        """What the answers depend on: nothing of sampling where nothing is sampled."""
        return self.model_dump(exclude=unhashed(self) | (set() if self.samples else _SAMPLING))


_SAMPLING = frozenset({"samples", "temperature", "top_p", "sample_seed"})


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Rule = dict[str, Annotated[list[str | int | float], BeforeValidator(_listed), Field(min_length=1)]]
"""Axis -> a name, or a list of names of which one must match."""


class Override(BaseModel):
    """Hyper-parameters for some cells of the matrix: the last override that matches wins."""

    model_config = _STRICT

    match: Rule = {}
    """Axis -> name or names, such as `{method: [lora, dora]}`; empty matches all."""
    set: dict[str, Any]
    """`sft.learning_rate: 1e-3`: a component, a dot, its field."""


class OwnResources(Resources):
    """What a stage may use, as a suite may ask for it."""

    env: Environment = {}
    """Environment variables set for the worker, of those that tune libraries. Never a secret: it is
    written to disk."""


class Suite(BaseModel):
    """Models x data x methods x objectives x hyper-parameters x seeds, and how to score them."""

    model_config = _STRICT

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    """Names the report's folder."""
    description: str = ""
    """One paragraph for the report's head."""
    models: dict[Name, ModelSpec]
    """Name -> model."""
    data: dict[Name, DataSpec]
    """Name -> splits."""
    matrix: dict[str, list[Any]] = {}
    """Axes: model, data, method, objective, and hyper-parameters such as `lora.r`. Without it
    nothing is trained: `base` and `checkpoints` are scored."""
    overrides: list[Override] = []
    """Hyper-parameters that differ between cells."""
    exclude: list[Rule] = []
    """Cells to leave out, such as `{method: full, objective: [dpo, ppo]}`."""
    reward_model: dict[str, Any] = {}
    """The one reward model of all policies: `method` (default: the matrix's lora, else lora),
    `model` (default: the cell's), `seed` (default: 0), and fields of the objective `reward`."""
    seeds: list[Seed] = [0]
    """Each cell is trained once a seed (initialisation and order of the rows)."""
    tune: Tune | None = None
    """Hyper-parameters that are chosen on validation rows, alike for every cell."""
    budget: Budget | None = None
    """Where every training run ends, trials included; default: as each objective says."""
    base: dict[Name, Generate] = {}
    """Uses of the untrained model that the variants are compared with."""
    checkpoints: dict[str, CheckpointSpec] = {}
    """Name -> a checkpoint trained elsewhere, scored as a variant beside the others."""
    evaluate_merged: list[str] = []
    """Patterns of trained variants, such as `lora*`, that are scored a second time with the adapter
    merged into the model's whole weights: `lora-sft-merged` beside `lora-sft`."""
    baseline: str | None = None
    """Variant all others are compared with; default: the first of `base`, else the first cell. Of
    several models a use in `base`, such as `zero-shot`, means the variant's own model at that use,
    and by default the first model's where nothing but models is compared; `zero-shot@NAME` means
    the one model of that name for all."""
    evaluate: list[str] = []
    """Data entries whose test rows every variant is scored on; default: the variant's own."""
    generate: Generate = Generate()
    """How trained variants answer."""
    scorers: list[Any] = ["rouge", "exact_match"]
    """What is measured."""
    executor: Any = "local"
    """Where it runs."""
    resources: OwnResources = OwnResources()
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
    settings: dict[str, str] = {}
    """Place in the suite -> the `--set` that put something there."""

    @contextlib.contextmanager
    def boundary(self) -> Iterator[None]:
        """Whatever is refused inside begins with the file, or with the setting that is to blame.

        Raises:
            SuiteError, ModelError: as they came, placed.
        """
        try:
            yield
        except (SuiteError, ModelError) as error:
            raise type(error)(placed(str(error), str(self.path), self.settings)) from None


def load_suite(name: str, settings: Sequence[str] = ()) -> Loaded:
    """Read and check a suite; `settings` are `key=value` changes from the command line.

    Raises:
        SuiteError: naming file, place, value and fix, all in one go.
    """
    path = find_suite(name)
    try:
        text = path.read_text(encoding="utf-8-sig")
        tree = read_yaml(text)
    except UnicodeDecodeError as error:
        raise SuiteError(
            f"not UTF-8 text (byte {error.start})", where=str(path), fix="save the file as UTF-8"
        ) from None
    except OSError as error:
        raise SuiteError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except SuiteError as error:
        raise SuiteError(error.message, where=str(path), fix=error.fix) from None
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
        raise SuiteError(placed(explain(error, Suite, ""), str(path), places)) from None
    return Loaded(suite=suite, path=path, text=text, settings=places)
