"""The lengths of rows in tokens, as a lengths stage writes them, and the notes and errors about
rows that are too long or refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.errors import ModelError, SuiteError

LENGTHS = "lengths.jsonl"
"""The file of a lengths stage: one line for each row of the data stage, with its id and length."""


@dataclass(frozen=True)
class RowLength:
    """The length of one row.

    Attributes:
        name: the row's id.
        tokens: the measured number of tokens; 0 if the row is refused.
        refused: why the tokenizer's chat template refuses the row; empty if it does not.
    """

    name: str
    tokens: int
    refused: str = ""


def write_lengths(folder: Path, lengths: Iterable[RowLength]) -> None:
    """Write the lengths into a stage's folder."""
    with (folder / LENGTHS).open("w", encoding="utf-8") as out:
        for row in lengths:
            why = {"refused": row.refused} if row.refused else {}
            out.write(json.dumps({"id": row.name, "tokens": row.tokens, **why}) + "\n")


def read_lengths(folder: Path) -> list[RowLength]:
    """Read the lengths that `write_lengths` wrote."""
    with (folder / LENGTHS).open(encoding="utf-8") as handle:
        lines = [json.loads(line) for line in handle]
    return [RowLength(line["id"], line["tokens"], line.get("refused", "")) for line in lines]


_WAYS = "lower generate.max_new_tokens, or set `overlong: truncate_left`"


@dataclass(frozen=True)
class Unfit:
    """Rows of one evaluation that do not fit some variant. All variants are treated alike.

    Attributes:
        place: the evaluation's place in the suite, for messages.
        rows: the number of all rows.
        over: the numbers of the rows that are too long for some variant.
        refused: number of a row that some chat template refuses -> the reason.
        overlong: the suite's option for rows that are too long.
        unusable: the suite's option for rows that are refused.
        cut: model -> number of tokens to which its longest prompts are cut.
        told: a text that names the variant with too little room, and the room it has.
        first: the ids of the first row that is too long, and of the first that is refused.
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
        """The numbers of the rows that are left out for all variants."""
        over = self.over if self.overlong != "truncate_left" else ()
        return sorted({*over, *self.refused})

    def notes(self, *, names: bool) -> Iterator[str]:
        """Sentences for the report and for `harness plan`.

        Args:
            names: also name rows and reasons.
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
        """Check the rows against the suite's options.

        Raises:
            SuiteError: the suite allows no row to be left out, or no row is left.
        """
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
    """Rows that are too long for one training.

    Attributes:
        place: the training's place in the suite, for messages.
        label: the name of the training's variant.
        objective: the objective's name.
        rows: the number of all rows.
        over: the number of rows that are too long.
        policy: the objective's option `overlong`.
        tokens: the most tokens that a row may have.
        longest: the tokens of the longest row.
        why: where that limit comes from.
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
        """Check the rows against the objective's option `overlong`.

        Raises:
            SuiteError: the option is `error`, or no row is left.
        """
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
        place: the training's place in the suite, for messages.
        model: the model's name.
        rows: the number of all rows.
        refused: the number of refused rows.
        reasons: the distinct reasons.
        unusable: the suite's option for such rows.
        first: the id of the first refused row.
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
        """Check the rows against the suite's option `unusable`.

        Raises:
            SuiteError: the option is `error`, or no row is left.
        """
        if self.unusable == "error" or self.refused == self.rows:
            raise SuiteError(
                f"{self.refused} of {self.rows} rows cannot be trained on with {self.model}:"
                f" {self.reasons[0]}; the first is row {self.first}",
                where=self.place,
                fix="mend the rows, set another `chat_template:` on the model, or `unusable: drop`",
            )


@dataclass(frozen=True)
class Beyond:
    """A row with a token that the model's embedding has no row for.

    Attributes:
        place: the model's place in the suite, for messages.
        rows_label: the name of the split.
        row: the row's id.
        number: the token's id.
        embedding: the number of the embedding's rows.
    """

    place: str
    rows_label: str
    row: str
    number: int
    embedding: int

    def require(self) -> None:
        """Raise ModelError, since the model cannot read the row."""
        raise ModelError(
            f"row {self.row} of {self.rows_label} holds the token with the id {self.number}, and"
            f" the embedding has {self.embedding} rows, 0 to {self.embedding - 1}",
            where=self.place,
            fix="save the model again after model.resize_token_embeddings(len(tokenizer)), or take"
            " the tokenizer that it was trained with",
        )
