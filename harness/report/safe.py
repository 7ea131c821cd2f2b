"""Text written by models, data and suites, made harmless in every format of the report."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp", "Co"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$@:^])")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def visible(text: object) -> str:
    """The text with characters that hide or reorder others written out: `⟨U+202E⟩`.

    Line feeds and tabs stay. A lone surrogate, which no file can hold, is written out as well.
    """
    return "".join(_seen(character) for character in str(text))


def _seen(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"⟨U+{ord(character):04X}⟩"


def line(text: object) -> str:
    """Visible text on one line."""
    return visible(" ".join(str(text).split()))


class Markdown(str):
    """Markdown that we wrote ourselves; every other string is escaped."""

    __slots__ = ()


def markdown(text: object) -> Markdown:
    """One line that no Markdown reader takes for markup, a link, HTML or the end of a cell."""
    if isinstance(text, Markdown):
        return text
    plain = line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = _MARKDOWN.sub(r"\\\1", plain)
    plain = re.sub(r"(?i)\bwww\.", r"www\\.", plain)
    return Markdown(re.sub(r"^([-=]|\d+(?=[.)]))", r"\\\1", plain))


def fenced(text: str, language: str = "") -> Markdown:
    """A code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markdown(f"{fence}{language}\n{visible(text).rstrip()}\n{fence}")


def csv_cell(cell: Any) -> Any:
    """A string that no spreadsheet reads as a formula; numbers as they are.

    The apostrophe is what spreadsheets take for "this is text" (OWASP, CSV Injection).
    """
    if not isinstance(cell, str):
        return cell
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def encodable(cell: Any) -> Any:
    """A string that UTF-8 can hold: lone surrogates replaced."""
    return cell.encode("utf-8", "replace").decode("utf-8") if isinstance(cell, str) else cell


def script_json(payload: Mapping[str, Any]) -> str:
    """JSON that may stand inside a script element: nothing in it can end that element.

    Raises:
        ValueError: a number is not finite, which JSON has no word for.
    """
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
