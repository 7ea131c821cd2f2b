"""Lengths of rows in tokens, as a lengths stage leaves them, and what follows where some are too
long."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.errors import ModelError, SuiteError

LENGTHS = "lengths.jsonl"
"""A line for each row of the data stage, in its order: what it is called and how long it is."""


@dataclass(frozen=True)
class RowLength:
    """One row.

    Attributes:
        tokens: of what was measured; 0 where `refused`.
        refused: why the tokenizer's chat template makes no text of it; empty where it does.
    """

    name: str
    tokens: int
    refused: str = ""


def write_lengths(folder: Path, found: Iterable[RowLength]) -> None:
    """Write a stage's lengths into its folder."""
    with (folder / LENGTHS).open("w", encoding="utf-8") as out:
        for row in found:
            why = {"refused": row.refused} if row.refused else {}
            out.write(json.dumps({"id": row.name, "tokens": row.tokens, **why}) + "\n")


def read_lengths(folder: Path) -> list[RowLength]:
    """What `write_lengths` wrote."""
    with (folder / LENGTHS).open(encoding="utf-8") as handle:
        lines = [json.loads(line) for line in handle]
    return [RowLength(line["id"], line["tokens"], line.get("refused", "")) for line in lines]


_WAYS = "lower generate.max_new_tokens, or set `overlong: truncate_left`"


@dataclass(frozen=True)
class Unfit:
    """Rows of one evaluation that some variant cannot be asked; the same for all variants.

    Attributes:
        rows: how many there are in all.
        over: numbers of rows that are too long for some variant.
        refused: numbers of rows that some chat template refuses, and why.
        overlong: what the suite says of those that are too long.
        cut: model -> tokens that its longest prompts are cut to.
        told: which variant lacks the room, and how much there is.
        first: names of the first row that is too long, and of the first that is refused.
    """

    place: str
    rows: int
    over: tuple[int, ...] = ()
    refused: Mapping[int, str] = field(default_factory=dict)
    overlong: str = "drop"
    unusable: str = "drop"
    cut: Mapping[str, int] = field(default_factory=dict)
    told: str = ""
    first: tuple[str, str] = ("", "")

    @property
    def left_out(self) -> list[int]:
        """Numbers of the rows that no variant is asked."""
        over = self.over if self.overlong != "truncate_left" else ()
        return sorted({*over, *self.refused})

    def notes(self, *, names: bool) -> Iterator[str]:
        """Sentences for the report and for `harness plan`.

        Args:
            names: tell which rows, too.
        """
        first = [f"; the first is row {name}" if names else "" for name in self.first]
        if self.over:
            what = {"drop": "left out for all variants", "error": "refused"}.get(self.overlong)
            way = f" To ask them too, {_WAYS}." if names and self.overlong == "drop" else ""
            most = ", ".join(f"{tokens} for {model}" for model, tokens in self.cut.items())
            what = what or f"cut at their left for all variants, to tokens: {most}"
            yield (
                f"{self.place}: {len(self.over)} of {self.rows} prompts do not fit ({self.told})"
                f" and are {what}{first[0]}.{way}"
            )
        if self.refused:
            reasons = "; ".join(dict.fromkeys(self.refused.values()))
            yield (
                f"{self.place}: {len(self.refused)} of {self.rows} rows are left out for all"
                f" variants: {reasons if names else 'they cannot be asked as they are'}{first[1]}."
            )

    def require(self) -> None:
        """Raise SuiteError where the suite wants no row left out, or none is left."""
        if self.refused and self.unusable == "error":
            number, reason = next(iter(self.refused.items()))
            raise SuiteError(
                f"row {self.first[1]} (number {number}): {reason}",
                where=self.place,
                fix="mend it, or set `unusable: drop`",
            )
        if len(self.refused) == self.rows > 0:
            raise SuiteError(
                f"all {self.rows} rows are refused: {self.refused[0]}",
                where=self.place,
                fix="mend the rows, or set another `chat_template:` on the model",
            )
        none = len(self.left_out) == self.rows > 0
        if (self.over and self.overlong == "error") or none:
            raise SuiteError(
                f"{len(self.over)} of {self.rows} prompts do not fit: {self.told}; the first is row"
                f" {self.first[0]}",
                where=self.place,
                fix=f"filter the rows (`max_chars`), {_WAYS}" + ("" if none else " or `drop`"),
            )


@dataclass(frozen=True)
class Overlong:
    """Rows that one training cannot take whole.

    Attributes:
        policy: the objective's `overlong`.
        field: its option that says how long rows may be, as the suite writes it.
    """

    place: str
    label: str
    objective: str
    rows: int
    over: int
    policy: str
    tokens: int
    longest: int
    why: str

    def note(self) -> str:
        """A sentence for `harness plan`."""
        return (
            f"{self.place}: {self.over} of {self.rows} rows are over the {self.tokens} tokens that"
            f" {self.label} has room for ({self.why}; the longest has {self.longest}):"
            f" overlong: {self.policy}."
        )

    def require(self) -> None:
        """Raise SuiteError where that training would fail by it."""
        all_gone = self.over == self.rows and self.policy == "drop"
        if all_gone or self.policy == "error":
            raise SuiteError(
                f"{self.over} of {self.rows} rows are over the {self.tokens} tokens that"
                f" {self.label} has room for ({self.why}; the longest has {self.longest})",
                where=self.place,
                fix=f"raise {self.objective}.max_length where the model's context allows it, filter"
                " the rows (`max_chars`), or set another `overlong:`",
            )


@dataclass(frozen=True)
class Refused:
    """Training rows that a model's chat template refuses.

    Attributes:
        reasons: why, each once.
        unusable: what the suite says of such rows.
        first: the name of the first of them.
    """

    place: str
    model: str
    rows: int
    refused: int
    reasons: tuple[str, ...]
    unusable: str
    first: str

    def note(self) -> str:
        """A sentence for `harness plan`."""
        return (
            f"{self.place}: {self.refused} of {self.rows} rows cannot be trained on with"
            f" {self.model}: {'; '.join(self.reasons)}; the first is row {self.first}."
        )

    def require(self) -> None:
        """Raise SuiteError where the suite wants all rows, or none is left."""
        if self.unusable == "error" or self.refused == self.rows:
            raise SuiteError(
                f"{self.refused} of {self.rows} rows cannot be trained on with {self.model}:"
                f" {self.reasons[0]}; the first is row {self.first}",
                where=self.place,
                fix="mend the rows, set another `chat_template:` on the model, or `unusable: drop`",
            )


@dataclass(frozen=True)
class Beyond:
    """A tokenizer that makes a token of some row that the model's embedding lacks."""

    place: str
    rows_label: str
    row: str
    number: int
    embedding: int

    def require(self) -> None:
        """Raise ModelError: the model could not read the row."""
        raise ModelError(
            f"row {self.row} of {self.rows_label} holds the token of number {self.number}, and the"
            f" embedding has {self.embedding} rows, 0 to {self.embedding - 1}",
            where=self.place,
            fix="save the model again after model.resize_token_embeddings(len(tokenizer)), or take"
            " the tokenizer that it was trained with",
        )
