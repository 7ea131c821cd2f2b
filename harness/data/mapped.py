"""Columns made of others, as a split's `map:` says."""

from __future__ import annotations

import difflib
import re
import string as strings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import DataError, near, shortened
from harness.data.cells import Unusable, string
from harness.data.columns import SYSTEM, TEMPLATE_COLUMNS

Row = dict[str, Any]
KEPT = ("id", "cluster", "group", "task", "references")
"""Columns that a row keeps beside those of `map`."""
_WORD = re.compile(r"[\w.-]+")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_NEAR = 0.8
_LISTED = 1000
"""Characters of the names of columns that a message lists."""


@dataclass(frozen=True)
class Part:
    """A piece of a template: a column's cell, or text that stands as it is."""

    text: str
    is_column: bool


def parse(template: str) -> list[Part]:
    """The pieces of `Summarise: {dialogue}`; `{'yes'}` is the text yes, `{{` a brace.

    Raises:
        ValueError: braces that do not name a column.
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
    """Every column that the templates may mean."""
    parts = (part for template in formats.values() for part in parse(template))
    return {*formats.values(), *(part.text for part in parts if part.is_column)}


def templates(
    formats: Mapping[str, str], columns: Collection[str], source: str, where: str
) -> dict[str, list[Part]]:
    """Each new column's pieces, checked against the columns that there are.

    A template without braces that is a column's name means that column, as in other tools.

    Raises:
        DataError: a column that is not there; or a bare word, which looks like one.
    """
    found = {
        column: [Part(template, is_column=True)] if _is_name(template, columns) else parse(template)
        for column, template in formats.items()
    }
    for column, parts in found.items():
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
                fix="name a column; where this very text is meant in every row, write"
                f" \"{{'{template}'}}\"",
            )
    return found


def _is_name(template: str, columns: Collection[str]) -> bool:
    return bool(template) and template in columns  # a table's index has the name ""


def _meant_as_column(text: str, columns: Collection[str]) -> bool:
    if "{" in text or "}" in text:
        return False
    alike = difflib.get_close_matches(text[:200], columns, n=1, cutoff=_NEAR)
    return bool(_WORD.fullmatch(text) or alike)


def no_column(name: str, columns: Collection[str], source: str) -> str:
    """The sentence for a column that a file does not have, with those that it has, in order."""
    meant = near(name, columns)
    guess = f"; did you mean '{meant}'?" if meant else ""
    listed = shortened(", ".join(columns), _LISTED)
    return f"unknown column '{shortened(name)}'{guess}\n  columns of {source}: {listed}"


def sample(first: Row, made_of: Mapping[str, list[Part]]) -> Row:
    """What rows look like once mapped, by the first value of each column that is not empty."""
    if not made_of:
        return first
    alone = {c: p[0] for c, p in made_of.items() if len(p) == 1 and p[0].is_column}
    made = {column: first[part.text] for column, part in alone.items()}
    kept = {name: first[name] for name in KEPT if name in first}
    return {**kept, **dict.fromkeys(made_of, ""), **made}


def mapped(row: Row, made_of: Mapping[str, list[Part]]) -> Row:
    """The row's new columns beside those it keeps. A lone column is only renamed, lists and all.

    Raises:
        Unusable: a cell is empty, or holds no text where text is put together.
    """
    if not made_of:
        return row
    made = {column: _cell(row, parts) for column, parts in made_of.items()}
    kept: tuple[str, ...] = KEPT
    if any(isinstance(value, list) for value in made.values()):
        kept += (*TEMPLATE_COLUMNS, *SYSTEM)  # a chat keeps what it cannot be read without
    return {**{name: row[name] for name in kept if name in row}, **made}


def _cell(row: Row, parts: list[Part]) -> Any:
    if len(parts) != 1:
        return "".join(string(row, p.text) if p.is_column else p.text for p in parts)
    (part,) = parts
    if part.is_column and row[part.text] is None:
        raise Unusable(f"no `{part.text}`")
    return row[part.text] if part.is_column else part.text
