"""The `data:` of a suite: splits, each a file, a hub data set or a mixture."""

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
    overlong: Literal["drop", "truncate_left", "error"] = "drop"
    """What happens to prompts that leave no room for an answer in the context of some variant's
    model: left out for all variants, cut (their oldest tokens go, alike for all variants of a
    model), or an error before anything is trained. What is trained on has the objective's own."""
    max_tokens: int | None = Field(None, gt=0)
    """Ask prompts of at most so many tokens, by the tokenizer and the template of every variant;
    what happens to longer ones, `overlong` says. Of training rows the objective's `max_length` is
    the limit, prompt and answer together."""
    turns: Literal["last", "each", "numbered"] = "last"
    """Of conversations (test rows alone): `last` asks for the last answer; `each` makes one example
    of every turn of the assistant, after the true turns before it, a conversation's
    examples counted as belonging together; `numbered` also puts the turn's number into the row's
    group, so that tables show the first turns, the second ones ... `limit` and `rows` count
    conversations."""
    roles: dict[str, Literal["user", "assistant", "system", "tool"]] = {}
    """What the roles of chats mean, where they are not known by name: `{narrator: system}`."""
    delimiter: str = Field("\n\n", min_length=1)
    """What separates the documents of a text file."""
    rows: tuple[int, int | None] | None = None
    """Take rows from the first number up to, not including, the second."""
    where: dict[str, str | int | float | bool | list[str]] = {}
    """Keep rows whose columns have these values (or one of a list)."""
    min_chars: dict[str, int] = {}
    """Keep rows whose columns have at least so many characters: `{dialogue: 20}`. Of a list of
    messages, those of all their texts."""
    max_chars: dict[str, int] = {}
    """Keep rows whose columns have at most so many characters."""
    limit: int | None = Field(None, gt=0)
    """Keep at most so many rows, the first ones."""
    map: dict[str, str] = {}
    """New columns from old: `prompt: "Summarise: {dialogue}"`, or a column's bare name. With `map`,
    only these are read. A text that is the same in every row is `{'text'}`."""
    mixture: dict[str, float] = {}
    """Instead of a path: other data entries and their weights, such as `{alpaca: 3, dialogues: 1}`.
    Each next row is drawn from an entry with a probability in proportion to its weight."""
    mixture_seed: Seed = 0
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
            own = self.model_fields_set - _OF_MIXTURES
            if own:
                raise ValueError(f"`{min(own)}` belongs to the entries of a mixture, not to it")
            if min(self.mixture.values()) <= 0:
                raise ValueError("the weights of a mixture are greater than 0")
        return self


_OF_MIXTURES = frozenset(
    {"mixture", "mixture_seed", "mixture_stop", "limit", "overlong", "max_tokens"}
)


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
        own = {"overlong": "overlong: drop", "max_tokens": "max_length: 512"}
        for name, said in own.items():
            if self.train is not None and name in self.train.model_fields_set:
                raise ValueError(
                    f"`{name}` is for rows that are answered; of training rows the objective says"
                    f" it (`sft: {{{said}}}`): put it under `test:`"
                )
        return self
