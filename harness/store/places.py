"""Checks, before a run starts, that its results can be written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from harness.core.errors import StoreError, why
from harness.store.stage import Stage

_PROBE = b"\0" * 65536

CREDENTIALS = "credentials"
"""Folder of the store for what is known of judges (harness.comparison.kept_credentials)."""


def kept_credentials(root: Path) -> list[Path]:
    """The files of all judges' credentials in a store, in their order."""
    return sorted((root / CREDENTIALS).glob("*/*.json"))


def require_writable(folder: Path, what: str, fix: str) -> None:
    """Check that a folder can be written: write a file into it, or into its nearest existing
    parent, and remove the file.

    Args:
        what: the thing to be written, for the message, such as `the report`.
        fix: the message's advice.

    Raises:
        StoreError: this fails: no permission, a disk that is full or read-only, or a file in the
            place of a folder.
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
        raise StoreError(
            f"{what} cannot be written into {folder}: {why(error)}", fix=fix
        ) from error


def require_space(pending: Iterable[Stage], store: Path) -> None:
    """Check that the disk has room for the checkpoints of a run.

    Args:
        pending: the stages that will run. Checkpoints of unknown size are not counted.
        store: the store's folder.

    Raises:
        StoreError: it has not; the message gives both sizes.
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
