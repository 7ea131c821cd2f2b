"""Inputs from outside the store: files and folders that a suite names.

Each is identified by its content when it is planned, and held to that wherever it is opened. One
that was edited in between, or while it was read, fails its stage instead of giving a result under a
wrong key.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.core.errors import HarnessError, StageFailed
from harness.core.files import digest_file

Digest = Callable[[Path], str]
"""sha256 of a file, however it is known."""
State = tuple[int, int, int, int]
"""A file's inode, size, and when it was last written (mtime) and last changed in any way (ctime,
which no tool can set back), in nanoseconds."""
_TICK_NS = 2_000_000_000
"""Longer than the tick of any file system's clock (FAT: 2 s; ext4: some milliseconds)."""


def state_of(path: Path) -> State:
    """What tells, without reading it, that a file is as it was; of a link, the file it points to.

    Raises:
        OSError: it is not there.
    """
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def digest_settled(path: Path) -> tuple[str, State | None]:
    """A file's sha256, and the state it may be remembered by.

    None for a file that changed a moment ago, or while it was read: it could change again within
    one tick of the file system's clock, and look the same.
    """
    state, begun = state_of(path), time.time_ns()
    digest = digest_file(path)
    settled = begun - max(state[2:]) > _TICK_NS and state_of(path) == state
    return digest, state if settled else None


class Digests:
    """sha256 of files, remembered while their state stays."""

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
"""Remembers as long as this process lives: a worker reads a model's files once to identify them."""


@contextlib.contextmanager
def as_planned(place: Path, planned: str, identify: Callable[[Digest], str]) -> Iterator[None]:
    """What is read inside is what was planned: `place` has that identity before, and the same files
    untouched after.

    Args:
        planned: its identity.
        identify: its identity as it is now, from the digests of the files that it rests on.

    Raises:
        StageFailed: it has changed since the plan, is gone, or changed while it was read.
    """
    found, before = _seen(identify)
    if found != planned:
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
    """The identity, None where it has none any more, and the state of each file behind it."""
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
    found, after = _seen(identify)
    if found != planned or any(after.get(path) != state for path, state in before.items()):
        raise StageFailed(
            "input changed", f"{place} changed while it was read", fix="run again"
        ) from cause
