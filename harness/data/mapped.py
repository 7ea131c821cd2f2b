"""Makes new columns from others, as the `map:` of a split says."""

from __future__ import annotations

import difflib
import re
import string as strings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import DataError, near, shortened
from harness.data.cells import Unusable, string
from harness.data.columns import RAW_TEMPLATE_COLUMNS, SYSTEM
from harness.data.row import RowDict

KEPT = ("id", "cluster", "group", "task", "references")
"""Columns that a row keeps besides those of `map`."""
_WORD = re.compile(r"[\w.-]+")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NEAR = 0.8
_LISTED = 1000
"""The length, in characters, to which a list of columns in a message is shortened."""


@dataclass(frozen=True)
class Part:
    """A piece of a template: the name of a column, or fixed text."""

    text: str
    is_column: bool


def parse(template: str) -> list[Part]:
    """The parts of a template such as `Summarise: {dialogue}`. `{'yes'}` is the fixed text yes, and
    `{{` is a brace.

    Raises:
        ValueError: braces do not name a column.
    """
    parts: list[Part] = []
    for text, name, form, conversion in strings.Formatter().parse(template):
        parts += [Part(text, is_column=False)] if text else []
        if name is None:
            continue
        if form or conversion or not name:
            raise ValueError("braces name a column, `{column}`; write other braces twice, `{{`")
        quoted = _QUOTED.fullmatch(name)
        parts.append(Part(name[1:-1] if quoted else name, is_column=not quoted))
    return parts


def named(formats: Mapping[str, str]) -> set[str]:
    """All columns that the templates may name."""
    parts = (part for template in formats.values() for part in parse(template))
    return {*formats.values(), *(part.text for part in parts if part.is_column)}


def templates(
    formats: Mapping[str, str], columns: Collection[str], source: str, where: str
) -> dict[str, list[Part]]:
    """New column -> the parts of its template, checked against the columns of the file.

    A template that is just a column's name, without braces, means that column, as in other tools.

    Raises:
        DataError: a template names an unknown column, or is a single word, which was probably meant
            as a column.
    """
    parsed = {
        column: [Part(template, is_column=True)] if _is_name(template, columns) else parse(template)
        for column, template in formats.items()
    }
    for column, parts in parsed.items():
        for part in parts:
            if part.is_column and part.text not in columns:
                raise DataError(
                    no_column(part.text, columns, source), where=f"{where}.map.{column}"
                )
    for column, template in formats.items():
        if not _is_name(template, columns) and _meant_as_column(template, columns):
            raise DataError(
                no_column(template, columns, source),
                where=f"{where}.map.{column}",
                fix="name a column; to put exactly this text into every row, write"
                f" \"{{'{template}'}}\"",
            )
    return parsed


def _is_name(template: str, columns: Collection[str]) -> bool:
    return bool(template) and template in columns  # a table's index has the name ""


def _meant_as_column(text: str, columns: Collection[str]) -> bool:
    if "{" in text or "}" in text:
        return False
    alike = difflib.get_close_matches(text[:200], columns, n=1, cutoff=_NEAR)
    return bool(_WORD.fullmatch(text) or alike)


def no_column(name: str, columns: Collection[str], source: str) -> str:
    """The message for an unknown column. It lists the columns of the file in their order."""
    meant = near(name, columns)
    guess = f"; did you mean '{meant}'?" if meant else ""
    listed = shortened(", ".join(columns), _LISTED)
    return f"unknown column '{shortened(name)}'{guess}\n  columns of {source}: {listed}"


def sample(first: RowDict, parsed: Mapping[str, list[Part]]) -> RowDict:
    """A sample of the mapped rows, made of the first value of each column that is not empty."""
    if not parsed:
        return first
    alone = {c: p[0] for c, p in parsed.items() if len(p) == 1 and p[0].is_column}
    renamed = {column: first[part.text] for column, part in alone.items()}
    kept = {name: first[name] for name in KEPT if name in first}
    return {**kept, **dict.fromkeys(parsed, ""), **renamed}


def mapped(row: RowDict, parsed: Mapping[str, list[Part]]) -> RowDict:
    """The row's new columns, and the columns that it keeps. A template that is one column copies
    the cell unchanged, of whatever type.

    Raises:
        Unusable: a cell is empty, or it is not text and is joined with other parts.
    """
    if not parsed:
        return row
    columns = {column: _cell(row, parts) for column, parts in parsed.items()}
    kept: tuple[str, ...] = KEPT
    if any(isinstance(value, list) for value in columns.values()):
        kept += (*RAW_TEMPLATE_COLUMNS, *SYSTEM)  # what a chat needs
    return {**{name: row[name] for name in kept if name in row}, **columns}


def _cell(row: RowDict, parts: list[Part]) -> Any:
    if len(parts) != 1:
        return "".join(string(row, p.text) if p.is_column else p.text for p in parts)
    (part,) = parts
    if part.is_column and row[part.text] is None:
        raise Unusable(f"no `{part.text}`")
    return row[part.text] if part.is_column else part.text
