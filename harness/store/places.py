"""Whether what a run leaves can be written, asked before anything is spent."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from harness.core.errors import StoreError
from harness.store.stage import Stage

_PROBE = b"\0" * 65536


def require_writable(folder: Path, what: str, fix: str) -> None:
    """Write a file into the folder, or into the nearest one above that is there, and remove it.

    Args:
        what: for people, such as `the report`.

    Raises:
        StoreError: that fails: no right to write, a disk that is full or read-only, a file where a
            folder should be.
    """
    there = folder.expanduser().absolute()
    while not os.path.lexists(there):
        there = there.parent
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".harness-", suffix=".tmp") as probe:
            probe.write(_PROBE)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise StoreError(f"{what} cannot be written into {folder}: {error}", fix=fix) from error


def require_space(pending: Iterable[Stage], store: Path) -> None:
    """Raise where the checkpoints to come are known to be larger than the disk has room for.

    Args:
        pending: stages that will run; those whose checkpoint's size is not known count nothing.

    Raises:
        StoreError: with both sizes.
    """
    sizes = [s.predicted["checkpoint_bytes"] for s in pending if "checkpoint_bytes" in s.predicted]
    needed, free = sum(sizes), shutil.disk_usage(store).free
    if needed > free:
        raise StoreError(
            f"{store} has {free / 1e9:.2f} GB free, and the {len(sizes)} checkpoints of this run"
            f" take {needed / 1e9:.2f} GB",
            fix="free space (harness gc --checkpoints SUITE), name a folder of another disk by"
            " --store, or run a part by --only",
        )
