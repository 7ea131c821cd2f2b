"""Makes text of models, data and suites safe to show in every format of the report."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

Value = TypeVar("Value")

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp", "Co"}
_MARKDOWN = re.compile(
    r"[\\`*|~$@]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|(?<=:)//|(?<=\bwww)\."
    r"|^[-+](?=\s|$)|^[-=](?=[-=]*$)|^#(?=#{0,5}(?:\s|$))|^\[(?=[^\]]*\][(\[:])",
    re.IGNORECASE,
)
"""Characters that start emphasis, code, a cell, a link, a formula, a mention, a list or a
definition. Other punctuation is not escaped, so that the file stays readable."""
_NUMBERED = re.compile(r"^(\d{1,9})(?=[.)](?:\s|$))")
"""The number of an item of a numbered list. The character after it is escaped, since digits cannot
be."""
_ODD = re.compile(r"[^\n\t\x20-\x7e]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LONGEST = 120
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def visible(text: object) -> str:
    """The text, in which characters that hide or reorder others are replaced by their code, such as
    `⟨U+202E⟩`.

    Line feeds and tabs stay. Lone surrogates, which no file can hold, are replaced too.
    """
    string = str(text)
    if string.isprintable():  # as almost all texts are
        return string
    return _ODD.sub(lambda odd: _seen(odd.group()), string)


def _seen(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"⟨U+{ord(character):04X}⟩"


def line(text: object) -> str:
    """The visible text on one line."""
    return visible(" ".join(str(text).split()))


def label(text: object) -> str:
    """A name on one line. A very long name is cut in the middle, since names often differ at the
    end."""
    name = line(text)
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 :]}"


def number_of(count: float, noun: str, plural: str = "") -> str:
    """A number of things: `1 claim`, `2 claims`, `1,200 claims`.

    Args:
        noun: of one; it may be several words, of which the last one takes the s.
        plural: where that is not the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


class Markdown(str):
    """Markdown that this package wrote itself. Every other string must be escaped."""

    __slots__ = ()


def markdown(text: object) -> Markdown:
    """The text on one line, escaped so that Markdown shows it without markup, links or HTML."""
    if isinstance(text, Markdown):
        return text
    return Markdown(_escaped(line(text)))


def _escaped(plain: str) -> str:
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _NUMBERED.sub(r"\1\\", _MARKDOWN.sub(r"\\\g<0>", plain))


_CODE = re.compile(r"(?<!`)`([^`|\\]+)`(?!`)")
"""Code in a sentence. A bar would end a table's cell, and in some places a backslash is shown."""
_HELD = "\ue000"
"""Stands for code while the rest is escaped. It is in no visible text."""


def code_parts(sentence: object) -> list[tuple[str, bool]]:
    """A sentence on one line in parts, each with whether it is code, which stands in backticks."""
    parts = enumerate(_CODE.split(line(sentence)))
    return [(part, place % 2 == 1) for place, part in parts if part]


def prose(sentence: object) -> Markdown:
    """A sentence as Markdown: code stays code, and all else is escaped, as names and values in it
    may come from elsewhere."""
    if isinstance(sentence, Markdown):
        return sentence
    parts = code_parts(sentence)
    codes = (f"`{part}`" for part, code in parts if code)
    rest = _escaped("".join(_HELD if code else part for part, code in parts))
    return Markdown("".join(next(codes) if sign == _HELD else sign for sign in rest))


def fenced(text: str, language: str = "") -> Markdown:
    """The text as a code block, with a fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}{language}\n{visible(text).rstrip()}\n{fence}")


def csv_cell(cell: Any) -> Any:
    """The cell, in a form that no spreadsheet reads as a formula. Numbers are not changed.

    Spreadsheets read a leading apostrophe as "this is text" (OWASP, CSV Injection).
    """
    if not isinstance(cell, str):
        return cell
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def well_formed(text: str) -> str:
    """The text, in which lone surrogates, which no file can hold, are replaced by their code."""
    return _SURROGATE.sub(lambda match: _seen(match.group()), text)


def rewrite(value: Value, change: Callable[[str], str]) -> Value:
    """The same structure of dataclasses, mappings and sequences with every string changed."""
    return cast(Value, _rewritten(value, change))


def _rewritten(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if value is None or isinstance(value, float | int):
        return value
    if isinstance(value, Mapping):
        return {_rewritten(k, change): _rewritten(v, change) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_rewritten(inner, change) for inner in value)
    if is_dataclass(value) and not isinstance(value, type):
        values = {f.name: _rewritten(getattr(value, f.name), change) for f in fields(value)}
        return type(value)(**values)
    return value


def script_json(payload: Mapping[str, Any]) -> str:
    """JSON that is safe inside an HTML script element: nothing in it can end that element.

    Raises:
        ValueError: a number is not finite, which JSON cannot represent.
    """
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
