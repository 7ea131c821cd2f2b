"""Opens text files: gzip-compressed or not, in UTF-8, or in UTF-16 or UTF-32 with a byte order
mark."""

from __future__ import annotations

import codecs
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO, cast

_BEGIN = 4096
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
    """A file cannot be read. The message says what is wrong and in which line or row; `fix` says
    what to do."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file as bytes. It is decompressed if it begins as gzip does, whatever its name.

    Raises:
        Broken: its name ends in .gz and it is not gzip.
    """
    with path.open("rb") as handle:
        packed = handle.read(len(_GZIP)) == _GZIP
    if path.suffix.lower() == ".gz" and not packed and path.stat().st_size:
        raise Broken("its name ends in .gz, but it is not compressed with gzip", "rename it")
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def open_text(path: Path, newline: str | None = None, head: int | None = None) -> TextIO:
    """Open a text file in UTF-8, or in UTF-16 or UTF-32 if it begins with their byte order mark.

    Args:
        newline: as in Python's `open`; None converts every line ending to a line feed.
        head: give no more than so many of its first bytes, up to the end of a line.

    Raises:
        Broken: it is a file of another kind, such as a ZIP archive.
    """
    with open_bytes(path) as raw:
        begin = raw.read(_BEGIN)
    for magic, what in _FOREIGN.items():
        if begin.startswith(magic):
            raise Broken(f"it is {what}", "save the rows as JSON lines, CSV or Parquet")
    if begin.startswith(_PARQUET):
        raise Broken("it is a Parquet file", "set `format: parquet`, or rename it")
    known = (name for mark, name in _MARKS.items() if begin.startswith(mark))
    encoding = next(known, "utf-8")  # without a mark no encoding is guessed
    if head is None:
        return io.TextIOWrapper(open_bytes(path), encoding=encoding, newline=newline)
    with open_bytes(path) as raw:
        first = raw.read(head)
    # It may end within a character, and an end of a line may be several bytes.
    text = codecs.getincrementaldecoder(encoding)().decode(first, final=len(first) < head)
    whole = text if len(first) < head else text[: text.rfind("\n") + 1]
    return io.StringIO(whole or text, newline=newline)


def numbered_lines(handle: TextIO) -> Iterator[tuple[int, str]]:
    """The numbers of the lines, from 1, and the lines.

    A byte order mark at the beginning of a line is removed: concatenated files have several.

    Raises:
        Broken: a line holds a zero character, which text never does.
    """
    for number, line in enumerate(handle, 1):
        if "\0" in line:
            raise Broken(
                f"line {number} holds a zero character: the file is damaged, or is not a text file",
                "write it again as UTF-8; UTF-16 needs its mark (BOM) in front",
            )
        yield number, line.removeprefix(_MARK)


def looks_like_json(path: Path) -> bool:
    """True if the first line that is not blank is a JSON object, or begins a list of objects."""
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
