"""Labels of pairs of answers by people, which judges are held against, and the files of them."""

from __future__ import annotations

import csv
import io
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import DataError, shortened
from harness.core.files import digest_json, write_atomic

WORDS = {"1": 1, "one": 1, "2": -1, "other": -1, "tie": 0}
"""What a label may be -> its sign: 1 if the first answer is better."""
NAMES = {1: "1", 0: "tie", -1: "2"}
_TEXTS = ("prompt", "one", "other")
LABEL_FIX = "a label is 1 (the first answer is better), 2 (the other one is) or tie"
_LONGEST_CELL = 10_000_000
_SEPARATOR = re.compile(r"sep=([,;\t])\r?\n", re.IGNORECASE)
_QUOTE = 'write cells that hold the separator, a line feed or " between " and "'


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt.

    Attributes:
        id: its name, unique among the pairs of a file.
        prompt, one, other: strings, or lists of messages, like the rows they are of.
        example_id: the row that the prompt is of; pairs of one row belong together.
        one_is, other_is: whose answers they are, such as names of variants; empty if not known.
    """

    id: str
    prompt: Any
    one: Any
    other: Any
    example_id: str = ""
    one_is: str = ""
    other_is: str = ""

    @property
    def row(self) -> str:
        """What its cluster is named by."""
        return self.example_id or self.id


@dataclass(frozen=True)
class Label:
    """What somebody says of a pair.

    Attributes:
        sign: 1 if answer `one` is better, -1 if the other is, 0 for a tie.
        labeller: who says so.
        dimension: in what the answer is better, such as `helpful`; empty: on the whole.
    """

    pair: Pair
    sign: int
    labeller: str = ""
    dimension: str = ""


def read_labels(path: Path) -> list[Label]:
    """The labels of a file.

    Each line has `prompt`, `one`, `other` and `label`, and may have `id` (else a digest of the
    three texts), `labeller`, `dimension`, `example_id`, `one_is` and `other_is`. A file whose name
    ends in `.csv` is CSV with these columns, any other JSON lines. Lines without a label are left
    out.

    Raises:
        DataError: there is no such file, a line is malformed, somebody labelled a pair twice, or
            one id stands for two pairs.
    """
    labels: dict[tuple[str, str, str], Label] = {}
    pairs: dict[str, Pair] = {}
    for place, row in table_rows(path):
        if blank(row.get("label")):
            continue
        label = Label(
            pair_of(row, place), sign_of(row["label"], place), *_text(row, "labeller", "dimension")
        )
        if pairs.setdefault(label.pair.id, label.pair) != label.pair:
            raise DataError(f"{place}: the id '{shortened(label.pair.id)}' stands for another pair")
        key = (label.pair.id, label.labeller, label.dimension)
        if key in labels:
            who = f" by '{shortened(label.labeller)}'" if label.labeller else ""
            raise DataError(
                f"{place}: a second label{who} of the pair '{shortened(label.pair.id)}'",
                fix="keep one of them, or name who gave it in `labeller`",
            )
        labels[key] = label
    if not labels:
        raise DataError(f"{path} holds no label", fix=LABEL_FIX)
    return list(labels.values())


def label_row(label: Label) -> dict[str, Any]:
    """A label as a line of a labels file."""
    pair = label.pair
    return {
        "id": pair.id, "label": NAMES[label.sign], "labeller": label.labeller,
        "dimension": label.dimension, "prompt": pair.prompt, "one": pair.one, "other": pair.other,
        "example_id": pair.example_id, "one_is": pair.one_is, "other_is": pair.other_is,
    }  # fmt: skip


def write_labels(path: Path, labels: Sequence[Label]) -> None:
    """Write a labels file as JSON lines."""
    write_atomic(path, json_lines(label_row(label) for label in labels))


def digest_labels(labels: Sequence[Label]) -> str:
    """A digest of the labels and of what they are about, whatever their order and file."""
    return digest_json(sorted(json.dumps(label_row(label), sort_keys=True) for label in labels))


def table_rows(path: Path, errors: str = "strict") -> Iterator[tuple[str, dict[str, Any]]]:
    """(place for messages, row) of a JSON-lines or CSV file.

    Args:
        errors: `replace` reads a file in another encoding too, with marks for what is not ASCII.

    Raises:
        DataError: the file cannot be read, or a line is malformed.
    """
    if not path.is_file():
        raise DataError(f"there is no file '{path}'")
    text = _text_of(path, errors)
    if path.suffix.lower() == ".csv":
        yield from _csv_rows(str(path), text)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place} is no JSON: {error}", fix="or name the file .csv") from None
        if not isinstance(row, dict):
            raise DataError(f"{place} is no object")
        yield place, row


def _text_of(path: Path, errors: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark, as spreadsheets write it.

    Raises:
        DataError: it is in another encoding.
    """
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start})",
            fix="in a spreadsheet save it as `CSV UTF-8`",
        ) from None


def _csv_rows(name: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of CSV, separated by what a first line `sep=;` says, as spreadsheets write it, else by
    the comma, semicolon or tab that its head has most of. Rows of empty cells are left out."""
    csv.field_size_limit(_LONGEST_CELL)
    said = _SEPARATOR.match(text)
    text = text[said.end() :] if said else text
    head = text.split("\n", 1)[0]
    delimiter = said[1] if said else max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = [column.strip().lower() for column in reader.fieldnames or ()]
        if twice := [c for c in columns if c and columns.count(c) > 1]:
            raise DataError(f"{name} has two columns '{shortened(twice[0])}'", fix="keep one")
        for row in reader:
            place = f"{name}, line {reader.line_num}"
            if any(row.pop(None, None) or ()):  # type: ignore[call-overload]
                raise DataError(f"{place} has more cells than the head", fix=_QUOTE)
            if all(map(blank, row.values())):
                continue
            yield place, {column.strip().lower(): cell for column, cell in row.items()}
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num} is no CSV: {error}") from None


def pair_of(row: Mapping[str, Any], place: str) -> Pair:
    """The pair of a line.

    Raises:
        DataError: a text of it is missing.
    """
    texts: list[Any] = []
    for name in _TEXTS:
        value = row.get(name)
        turns = isinstance(value, list) and value and all(_turn(turn) for turn in value)
        if not isinstance(value, str) and not turns:
            raise DataError(
                f"{place}: `{name}` is no text and no list of messages",
                fix=f"a label needs {', '.join(_TEXTS)} and label",
            )
        texts.append(value)
    (name,) = _text(row, "id")
    return Pair(
        name or digest_json(texts)[:16], *texts, *_text(row, "example_id", "one_is", "other_is")
    )


def _turn(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("content"), str)


def _text(row: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    return tuple("" if blank(row.get(name)) else str(row[name]) for name in names)


def blank(value: Any) -> bool:
    """Whether a cell of labels says nothing; NaN is how tables write that."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def sign_of(value: Any, place: str) -> int:
    """The sign of a label in words.

    Raises:
        DataError: it is none of WORDS.
    """
    word = str(value).strip().strip("'").lower().removesuffix(".0")  # tables write 1.0 beside NaN
    if word not in WORDS:
        raise DataError(f"{place}: the label is '{shortened(str(value))}'", fix=LABEL_FIX)
    return WORDS[word]


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as JSON lines that every file can hold, lone surrogates of a model included."""
    return "".join(f"{_json(row)}\n" for row in rows)


def _json(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(row)
    return text
