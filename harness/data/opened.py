"""Files as text, packed or not, in the Unicode that they say they are, with the line of a fault."""

from __future__ import annotations

import codecs
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO, cast

_HEAD = 4096
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_FOREIGN = {b"PK\x03\x04": "a ZIP archive or a spreadsheet", b"%PDF": "a PDF", b"BZh91AY": "bzip2",
            b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}  # fmt: skip
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",  # before UTF-16, whose mark leads
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}  # fmt: skip
_MARK = "\ufeff"


class Broken(ValueError):
    """A file that cannot be read: what is wrong, in which line or row, and what to do about it."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked where they are gzip's, whatever the file is called."""
    with path.open("rb") as handle:
        packed = handle.read(len(_GZIP)) == _GZIP
    if path.suffix.lower() == ".gz" and not packed and path.stat().st_size:
        raise Broken("its name ends in .gz and it is not packed by gzip", "rename it")
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def open_text(path: Path, newline: str | None = None) -> TextIO:
    """A text file in UTF-8, or in the UTF-16 or UTF-32 that its first bytes tell.

    Args:
        newline: as of Python's `open`; None makes a line feed of every line's end.

    Raises:
        Broken: no text at all.
    """
    with open_bytes(path) as raw:
        head = raw.read(_HEAD)
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise Broken(f"it is {what}", "save the rows as JSON lines, CSV or Parquet")
    if head.startswith(_PARQUET):
        raise Broken("it is a Parquet file", "set `format: parquet`, or rename it")
    known = (name for mark, name in _MARKS.items() if head.startswith(mark))
    encoding = next(known, "utf-8")  # without a mark nothing is guessed
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, newline=newline)


def numbered_lines(handle: TextIO) -> Iterator[tuple[int, str]]:
    """The lines and their numbers from 1.

    A byte order mark before a line is left out: files put one after another have several.

    Raises:
        Broken: a line holds the zero character, which no text does.
    """
    for number, line in enumerate(handle, 1):
        if "\0" in line:
            raise Broken(
                f"line {number} holds a zero character: the file is damaged, or no text",
                "write it again as UTF-8; UTF-16 needs its mark (BOM) in front",
            )
        yield number, line.removeprefix(_MARK)


def looks_like_json(path: Path) -> bool:
    """Whether the first line that is not blank is a JSON object, or begins a list of them."""
    with open_text(path) as handle:
        first = next((text for _, line in numbered_lines(handle) if (text := line.strip())), "")
    if first.startswith("["):
        return first[1:].lstrip()[:1] in ("", "{")
    if not first.startswith("{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False
