"""Identifies inputs from outside the store: files and folders that a suite names.

Planning identifies each input by its content, and a stage checks this identity when it opens the
input. If the input was changed in between, or while it was read, the stage fails; it would
otherwise store a result under a wrong key.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from harness.core.errors import HarnessError, StageFailed
from harness.core.files import digest_file, digest_json, files_below

Digest = Callable[[Path], str]
"""A function from a file to its sha256."""
State = tuple[int, int, int, int]
"""A file's inode and size, and the times in nanoseconds when it was last written (mtime) and last
changed in any way (ctime, which no tool can set back)."""
_TICK_NS = 2_000_000_000
"""At least the tick of any file system's clock (FAT: 2 s; ext4: some milliseconds)."""


def tree_digest(folder: Path, digest: Digest) -> str:
    """sha256 over the names and contents of all files below a folder, Python's caches aside.

    Raises:
        HarnessError: there are too many.
    """
    files = [
        path for path in files_below(folder) if "__pycache__" not in path.relative_to(folder).parts
    ]
    return digest_json({path.relative_to(folder).as_posix(): digest(path) for path in files})


def files_digest(file: Path, files: Iterable[Path], digest: Digest) -> str:
    """sha256 over the contents of some files, and how they lie to the first of them."""
    return digest_json(
        {Path(os.path.relpath(path, file.parent)).as_posix(): digest(path) for path in files}
    )


def state_of(path: Path) -> State:
    """A file's state, which shows whether it changed without reading it. A link is followed.

    Raises:
        OSError: the file is not there.
    """
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def digest_settled(path: Path) -> tuple[str, State | None]:
    """A file's sha256, and the state under which the digest may be remembered.

    The state is None if the file changed a moment ago, or while it was read: it could change again
    within one tick of the file system's clock without a change of its state.
    """
    state, begun = state_of(path), time.time_ns()
    digest = digest_file(path)
    settled = begun - max(state[2:]) > _TICK_NS and state_of(path) == state
    return digest, state if settled else None


class Digests:
    """Computes the sha256 of files, and remembers it until their state changes."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[State, str]] = {}

    def __call__(self, path: Path) -> str:
        known = self._known.get(path)
        if known is not None and known[0] == state_of(path):
            return known[1]
        digest, state = digest_settled(path)
        if state is not None:
            self._known[path] = state, digest
        return digest


digest_known: Digest = Digests()
"""The digests of this process: a worker reads a model's files only once to identify them."""


@contextlib.contextmanager
def as_planned(place: Path, planned: str, identify: Callable[[Digest], str]) -> Iterator[None]:
    """Check that the block reads the input that was planned: `place` must have the planned identity
    before it, and the same unchanged files after it.

    Args:
        place: the input's file or folder, for messages.
        planned: the input's identity when it was planned.
        identify: computes the input's current identity from the digests of its files.

    Raises:
        StageFailed: the input has changed since it was planned, is gone, or changed while it was
            read.
    """
    identity, before = _seen(identify)
    if identity != planned:
        raise StageFailed(
            "input changed", f"{place} has changed since it was planned", fix="run again"
        )
    try:
        yield
    except Exception as error:
        _require_same(place, planned, before, identify, error)
        raise
    _require_same(place, planned, before, identify)


def _seen(identify: Callable[[Digest], str]) -> tuple[str | None, dict[Path, State]]:
    """The current identity (None if the input is gone or broken), and the state of each of its
    files."""
    states: dict[Path, State] = {}

    def digest(path: Path) -> str:
        states[path] = state_of(path)
        return digest_known(path)

    try:
        return identify(digest), states
    except (HarnessError, OSError, SyntaxError):
        return None, states


def _require_same(
    place: Path,
    planned: str,
    before: dict[Path, State],
    identify: Callable[[Digest], str],
    cause: Exception | None = None,
) -> None:
    identity, after = _seen(identify)
    if identity != planned or any(after.get(path) != state for path, state in before.items()):
        raise StageFailed(
            "input changed", f"{place} changed while it was read", fix="run again"
        ) from cause
