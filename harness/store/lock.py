"""Locks a stage, so that one run at a time works on it. Waiting runs learn which run holds it."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from harness.core.files import write_atomic

LOCK, HOLDER = "lock", "holder.json"
_TELL_SECONDS = 2.0


@contextlib.contextmanager
def locked(folder: Path, run: int, waiting: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other run holds the stage of `folder`, and hold it during the block.

    Args:
        run: the process id of this run, shown to runs that wait for it.
        waiting: called every two seconds while this run waits, with a text about the other run.
    """
    lock = FileLock(folder / LOCK)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_TELL_SECONDS)
        except Timeout:
            waiting(_holder(folder))
    try:
        holder = {"pid": run, "host": socket.gethostname(), "since": time.time()}
        write_atomic(folder / HOLDER, json.dumps(holder))
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    """A text about the run that holds the stage. Its file may be missing for a moment, when it is
    just written or removed."""
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return "waits for another run that works on it"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    return (
        f"waits for another run, process {holder['pid']} on {holder['host']}, that has worked on it"
        f" since {since}"
    )
