"""Opens files that other tools or strangers wrote: within limits of size, never outside the given
folder, and with one kind of error."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from harness.core.errors import EXIT_NOT_JUDGED, DataError, why

MAX_BYTES = 4 * 2**30
"""The largest file that is read, and the most bytes that a compressed one may become."""
MAX_DOCUMENT = 2**30
"""The largest JSON document that is read as a whole."""
MAX_MEMBER = 2**28
"""The largest member of a ZIP archive, unpacked."""
MAX_MEMBERS = 2_000_000
MAX_RATIO = 1000
"""How many times larger than packed a member of more than a mebibyte may be."""
_MIB = 2**20
_GZIP = b"\x1f\x8b"
_ZSTANDARD = 93
"""The number of zstandard among the methods of ZIP (APPNOTE 6.3.7, section 4.4.5)."""


class Unreadable(DataError):
    """Results cannot be read, so that nothing can be judged by them."""

    exit_code = EXIT_NOT_JUDGED
    reason = "unreadable"


def digest(path: Path) -> str:
    """sha256 of a file's bytes.

    Raises:
        Unreadable: it cannot be read, or is too large.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(path, MAX_BYTES)
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}", where=str(path)) from error


def head(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file, unpacked if it is packed with gzip."""
    try:
        with _opened(path) as handle:
            return handle.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"cannot be read: {why(error)}", where=str(path)) from error


def json_file(path: Path) -> Any:
    """The JSON document in a file, which may be packed with gzip.

    Raises:
        Unreadable: it is not JSON, is too large, is nested too deep, or names a key twice.
    """
    try:
        with _opened(path) as handle:
            content = handle.read(MAX_DOCUMENT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"cannot be read: {why(error)}", where=str(path)) from error
    if len(content) > MAX_DOCUMENT:
        raise _too_large(path, MAX_DOCUMENT)
    return parsed(content, str(path))


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, object) of each line that is not empty.

    Raises:
        Unreadable: a line is not one JSON object.
    """
    read = 0
    try:
        with _opened(path) as handle:
            for number, line in enumerate(handle, 1):
                read += len(line)
                if read > MAX_BYTES:
                    raise _too_large(path, MAX_BYTES)
                if not line.strip():
                    continue
                value = parsed(line, f"{path}: line {number}")
                if not isinstance(value, dict):
                    raise Unreadable("is not a JSON object", where=f"{path}: line {number}")
                yield number, value
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"cannot be read: {why(error)}", where=str(path)) from error


def parsed(content: bytes, where: str) -> Any:
    """A JSON document in UTF-8.

    Raises:
        Unreadable: it is none.
    """
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise Unreadable(
            f"line {error.lineno}, column {error.colno} is not JSON: {error.msg}", where=where,
            fix="the file may have been cut off; write it again",
        ) from None  # fmt: skip
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 text at byte {error.start}", where=where) from None
    except RecursionError:
        raise Unreadable("is nested too deep to be read", where=where) from None
    except ValueError as error:
        raise Unreadable(str(error), where=where) from None


class Zip:
    """A ZIP archive whose members are read within limits; nothing is unpacked to disk."""

    def __init__(self, path: Path) -> None:
        self._path, self._left = path, MAX_BYTES
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise Unreadable(f"is not a ZIP archive: {why(error)}", where=str(path)) from error
        infos = self._archive.infolist()
        names = [info.filename for info in infos]
        if len(names) > MAX_MEMBERS:
            raise Unreadable(f"has {len(names)} members", where=str(path))
        if len(set(names)) < len(names):
            raise Unreadable("has two members of one name", where=str(path))
        for name in names:
            if name.startswith(("/", "\\")) or ".." in Path(name.replace("\\", "/")).parts:
                raise Unreadable(f"has a member outside itself: {name[:200]!r}", where=str(path))
        self._infos = dict(zip(names, infos, strict=True))

    @property
    def names(self) -> list[str]:
        """The names of all members."""
        return list(self._infos)

    def json(self, name: str) -> Any:
        """The JSON document in a member.

        Raises:
            Unreadable: the archive has no such member, or it is damaged, too large, or not JSON.
        """
        where = f"{self._path}: {name}"
        if (info := self._infos.get(name)) is None:
            raise Unreadable(f"has no {name}", where=str(self._path))
        packed, size = max(info.compress_size, 1), info.file_size
        if size > min(MAX_MEMBER, self._left) or (size > _MIB and size / packed > MAX_RATIO):
            raise Unreadable(f"would unpack to {size} bytes from {packed}", where=where)
        try:
            content = self._unpacked(info)
        except (OSError, RuntimeError, NotImplementedError, ValueError, EOFError,
                zipfile.BadZipFile, zlib.error, struct.error) as error:  # fmt: skip
            raise Unreadable(f"is damaged: {why(error)}", where=where) from error
        if len(content) > size:
            raise Unreadable("is larger than the archive says", where=where)
        self._left -= len(content)
        return parsed(content, where)

    def _unpacked(self, info: zipfile.ZipInfo) -> bytes:
        """A member's content, at most one byte more than the archive says."""
        if info.compress_type != _ZSTANDARD:
            with self._archive.open(info) as handle:
                return handle.read(info.file_size + 1)
        # Inspect packs with zstandard, which zipfile knows from Python 3.14 on; pyarrow knows it.
        import pyarrow as pa

        with self._path.open("rb") as handle:
            handle.seek(info.header_offset)
            name, extra = struct.unpack("<26xHH", handle.read(30))
            handle.seek(name + extra, 1)
            packed = handle.read(info.compress_size)
        stream = pa.CompressedInputStream(pa.BufferReader(packed), "zstd")
        content: bytes = stream.read(info.file_size + 1)
        if zlib.crc32(content) != info.CRC:
            raise zipfile.BadZipFile("its checksum is another one")
        return content


def inside(folder: Path, pattern: str) -> list[Path]:
    """The files below a folder that match, sorted. Links that lead out of the folder are refused.

    Raises:
        Unreadable: one of them is a link out of the folder.
    """
    root = folder.resolve()
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    for path in files:
        if not path.resolve().is_relative_to(root):
            raise Unreadable("is a link out of the given folder", where=str(path))
    return files


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as handle:
        packed = handle.read(2) == _GZIP
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def _too_large(path: Path, limit: int) -> Unreadable:
    return Unreadable(
        f"is larger than {limit / 2**30:.0f} GiB", where=str(path), fix="split it, or give a CSV"
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in row if keys.count(key) > 1)
        raise ValueError(f"the key {double[:100]!r} occurs twice in one object")
    return row
