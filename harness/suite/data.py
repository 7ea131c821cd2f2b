"""The `data:` of a suite: splits, each of which is a file, a hub data set or a mixture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core.fields import Seed
from harness.data.mapped import parse

_STRICT = ConfigDict(
    extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
)


class Split(BaseModel):
    """Rows from a file (JSONL, JSON, CSV, TSV, Parquet, text), from a hub data set, or from a
    mixture.

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
    """The file's format; default: by the ending of its name."""
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
    """What the columns mean; default: detected by their names (`harness data` shows the result)."""
    chat: bool = False
    """Convert prompts and answers that are plain strings into chats; alpaca's template is then left
    out."""
    scale: tuple[float, float] | None = None
    """The least and the greatest score that answers can have; a row with another score is
    unusable."""
    weights: dict[str, float] = {}
    """Dimension -> weight (0: not counted), for answers that are scored in several dimensions.
    Answers are ranked by the weighted mean of their scores."""
    unusable: Literal["drop", "error"] = "drop"
    """What happens to rows that cannot be used (equal or empty answers, a score out of its scale
    ...): they are left out and counted by reason, or they are an error."""
    overlong: Literal["drop", "truncate_left", "error"] = "drop"
    """What happens to prompts that leave no room for an answer in the context of some variant's
    model: they are left out for all variants, cut (the first tokens are removed, in the same way
    for all variants of a model), or an error before anything is trained. Training rows have the
    objective's `overlong` instead."""
    max_tokens: int | None = Field(None, gt=0)
    """The most tokens of a prompt, by the tokenizer and the template of every variant. `overlong`
    says what happens to longer prompts. For training rows the limit is the objective's
    `max_length`, of prompt and answer together."""
    turns: Literal["last", "each", "numbered"] = "last"
    """For test rows that are conversations: `last` asks for the last answer. `each` makes one
    example of every turn of the assistant, after the true turns before it; the examples of a
    conversation are one cluster. `numbered` does the same, and adds the turn's number to the row's
    group, so that tables show the first turns, the second ones ... `limit` and `rows` count
    conversations."""
    roles: dict[str, Literal["user", "assistant", "system", "tool"]] = {}
    """Unknown name of a role in chats -> the role that it means: `{narrator: system}`."""
    delimiter: str = Field("\n\n", min_length=1)
    """What separates the documents of a text file."""
    rows: tuple[int, int | None] | None = None
    """Take rows from the first number up to, not including, the second."""
    where: dict[str, str | int | float | bool | list[str]] = {}
    """Keep only rows in which these columns have this value (or one of a list)."""
    min_chars: dict[str, int] = {}
    """Keep only rows in which these columns have at least so many characters: `{dialogue: 20}`. For
    a list of messages, the characters of all their texts are counted."""
    max_chars: dict[str, int] = {}
    """Keep only rows in which these columns have at most so many characters."""
    limit: int | None = Field(None, gt=0)
    """Keep only the first rows, at most so many."""
    map: dict[str, str] = {}
    """New columns from old ones: `prompt: "Summarise: {dialogue}"`, or just a column's name. With
    `map`, only the new columns are read. Write a text that is the same in every row as
    `{'text'}`."""
    mixture: dict[str, float] = {}
    """Instead of a path: other data entries and their weights, such as `{alpaca: 3, dialogues: 1}`.
    Each row is drawn from an entry with a probability in proportion to its weight."""
    mixture_seed: Seed = 0
    """The seed for the draws of a mixture."""
    mixture_stop: Literal["first_exhausted", "all_exhausted"] = "first_exhausted"
    """When a mixture ends: when an entry has no row left, or, by repeating rows, when every entry
    has been used up."""

    @model_validator(mode="after")
    def _readable_scores(self) -> Split:
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError("`scale` must be the least score, then the greatest")
        weights = self.weights.values()
        if self.weights and (not any(weights) or not all(map(math.isfinite, weights))):
            raise ValueError("`weights` must be numbers, not all of them 0")
        return self

    @field_validator("map")
    @classmethod
    def _readable_templates(cls, value: dict[str, str]) -> dict[str, str]:
        for column, template in value.items():
            try:
                parse(template)
            except ValueError as error:
                raise ValueError(f"{column}: {template!r}: {error}") from None
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Split:
        if bool(self.path) == bool(self.mixture):
            raise ValueError("rows come from a `path` or from a `mixture`: give one of them")
        if self.mixture:
            misplaced = self.model_fields_set - _OF_MIXTURES
            if misplaced:
                raise ValueError(
                    f"`{min(misplaced)}` belongs to the entries of a mixture, not to it"
                )
            if min(self.mixture.values()) <= 0:
                raise ValueError("the weights of a mixture are greater than 0")
        return self


_OF_MIXTURES = frozenset(
    {"mixture", "mixture_seed", "mixture_stop", "limit", "overlong", "max_tokens"}
)


class DataSpec(BaseModel):
    """The splits of one data set. Validation rows are for tuning, test rows only for the report."""

    model_config = _STRICT

    train: Split | None = None
    """Rows to train on."""
    validation: Split | None = None
    """Rows by which hyper-parameters are chosen."""
    test: Split | None = None
    """Rows that every variant is scored on."""

    @model_validator(mode="before")
    @classmethod
    def _share_options(cls, value: Any) -> Any:
        """Options beside the splits hold for all splits."""
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
            split = rest.get(name)
            if isinstance(split, str):
                split = {"path": split}
            if isinstance(split, Mapping):
                rest[name] = {**({} if "mixture" in split else shared), **split}
        return rest

    @model_validator(mode="after")
    def _some_rows(self) -> DataSpec:
        if not (self.train or self.validation or self.test):
            raise ValueError("it names no rows; give `train:`, `validation:` or `test:`")
        return self

    @model_validator(mode="after")
    def _whole_conversations(self) -> DataSpec:
        for name in ("train", "validation"):
            split: Split | None = getattr(self, name)
            if split is not None and split.turns != "last":
                raise ValueError(
                    f"`turns: {split.turns}` is for test rows, and the {name} rows have it: what"
                    " trains on conversations reads them whole and learns every turn of the"
                    " assistant; put `turns` under `test:`"
                )
        examples = {"overlong": "overlong: drop", "max_tokens": "max_length: 512"}
        for name, said in examples.items():
            if self.train is not None and name in self.train.model_fields_set:
                raise ValueError(
                    f"`{name}` is for rows that are answered; of training rows the objective says"
                    f" it (`sft: {{{said}}}`): put it under `test:`"
                )
        return self
