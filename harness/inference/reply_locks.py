"""Locks beside a file of replies, which all processes of a store share.

The kernel frees them when a process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

from filelock import FileLock, Timeout

_LOOK_SECONDS = 0.5
"""How often who waits for a reply of another process looks whether its own run has ended."""
_FREE_SECONDS = 0.02
"""How often who waits for a place looks for a free one."""


@contextlib.contextmanager
def claimed(replies: Path, key: str, ended: threading.Event) -> Iterator[None]:
    """Hold the lock of a request: one process at a time sends it.

    Args:
        replies: the file of the replies.
        ended: set once this run has ended.

    Raises:
        CancelledError: another process holds it, and this run has ended in the meantime.
    """
    folder = _folder(replies, ".claims")
    lock = FileLock(folder / f"{key}.lock")
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_LOOK_SECONDS)
        except Timeout:
            if ended.is_set():
                raise CancelledError from None
    try:
        yield
    finally:
        lock.release()
    # The reply is in the file, so that whoever makes a lock of this name anew finds it there.
    Path(lock.lock_file).unlink(missing_ok=True)


@contextlib.contextmanager
def one_of(replies: Path, places: int, ended: threading.Event) -> Iterator[None]:
    """Hold one of so many places: so many requests are under way at once, in all processes.

    Raises:
        CancelledError: none is free, and this run has ended in the meantime.
    """
    folder = _folder(replies, ".places")
    locks = [FileLock(folder / f"{number}.lock") for number in range(places)]
    random.shuffle(locks)  # so that few processes look at one place
    with _looking(folder):
        while not any(map(_is_taken, locks)):
            if ended.is_set():
                raise CancelledError
            time.sleep(_FREE_SECONDS)
    try:
        yield
    finally:
        for lock in locks:
            lock.release()


@functools.cache
def _looking(folder: Path) -> threading.Lock:
    """Held by the one thread of this process that looks for a place: hundreds that look at hundreds
    of places, while others have them, would take the processor's whole time."""
    return threading.Lock()


def _is_taken(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _folder(replies: Path, ending: str) -> Path:
    folder = replies.with_suffix(ending)
    folder.mkdir(exist_ok=True)
    return folder
