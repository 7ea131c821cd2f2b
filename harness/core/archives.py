"""Reads chosen files out of a tar that may be hostile."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from harness.core.errors import StageFailed

_MEMBERS = 1000
_HEADERS = 4096 * _MEMBERS
"""Largest size in bytes of all that a tar holds beside its files: a long name is read into memory
whole, and some kilobytes of archive may unpack to one of gigabytes."""
_PART = 2**20
_PACKED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""How a compressed file begins -> what reads it."""
_BROKEN = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError,
           RecursionError)  # fmt: skip
"""What the libraries raise for a broken archive; the last one for names of names of names."""


def extract(archive: Path, folder: Path, names: Collection[str], limit: int) -> None:
    """Write the files of these names into a folder, whatever folder of the archive they are in.
    Other plain files are passed over. Nothing is extracted by tar itself.

    Args:
        limit: largest size in bytes of all files of the archive together, unpacked.

    Raises:
        StageFailed: the archive holds a link, a device, an absolute path or one with `..`, the same
            name twice, or too much; it lacks a name; or it is no tar.
        OSError: this machine cannot read or write.
    """
    seen: set[str] = set()
    size = count = 0
    try:
        with _unpacked(archive) as content, _opened(content, limit + _HEADERS) as tar:
            for member in tar:
                size, count = size + max(0, member.size), count + 1
                if size > limit or count > _MEMBERS:
                    raise _refused(f"holds more than {limit} bytes, or {_MEMBERS} files")
                if fault := _fault(member):
                    raise _refused(f"holds {member.name[:100]!a}, {fault}")
                name = PurePosixPath(member.name).name
                if not member.isfile() or name not in names:
                    continue
                if name in seen:
                    raise _refused(f"holds {name} twice")
                seen.add(name)
                stream = tar.extractfile(member)
                assert stream is not None, "a plain file can be read"
                with (folder / name).open("wb") as file:
                    file.writelines(_parts(stream))
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of this machine, such as a full disk: what reads archives gives no number
        raise _refused(f"cannot be read: {type(error).__name__}") from None
    if missing := sorted(set(names) - seen):
        raise _refused(f"holds no {missing[0]}")


class _Bounded:
    """Reads a stream, and refuses to read on where it is too long."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self._left, self._limit = stream, limit, limit

    def read(self, size: int) -> bytes:
        part = self._stream.read(size)
        self._left -= len(part)
        if self._left < 0:
            raise _refused(f"unpacks to more than {self._limit} bytes")
        return part


def _unpacked(archive: Path) -> IO[bytes]:
    with archive.open("rb") as file:
        begins = file.read(8)
    for magic, opened in _PACKED.items():
        if begins.startswith(magic):
            return opened(archive)  # type: ignore[no-any-return]
    return archive.open("rb")


def _opened(content: IO[bytes], limit: int) -> tarfile.TarFile:
    bounded: Any = _Bounded(content, limit)  # of a file, a tar that is a stream uses `read` alone
    return tarfile.open(fileobj=bounded, mode="r|")


def _fault(member: tarfile.TarInfo) -> str | None:
    path = PurePosixPath(member.name)
    if member.issym() or member.islnk():
        return "a link"
    if not member.isfile() and not member.isdir():
        return "which is no plain file"
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        return "a path that leads out of it"
    return None


def _parts(stream: IO[bytes]) -> Iterator[bytes]:
    while part := stream.read(_PART):
        yield part


def _refused(what: str) -> StageFailed:
    return StageFailed("weights", f"the archive that the service gave {what}")
