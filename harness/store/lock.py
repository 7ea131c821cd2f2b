"""One run at a time works on a stage; whoever waits for it is told which one has it."""

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
    """Hold the stage of `folder`, as soon as no other run does.

    Args:
        run: process id of this run, for those who wait for it.
        waiting: told every other second whom this one waits for.
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
    """Whom a waiting run waits for. The file may be just about to be written, or to go."""
    try:
        told = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return "waits for another run that works on it"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(told["since"]))
    return (
        f"waits for another run, process {told['pid']} on {told['host']}, that has worked on it"
        f" since {since}"
    )
