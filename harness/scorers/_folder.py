"""Folders that a scorer loads from, such as an encoder: a digest of the files, and the check that
they are still those that were planned with."""

from __future__ import annotations

import contextlib
import hashlib
from contextlib import AbstractContextManager
from pathlib import Path

from harness.core.outside import Digest, as_planned, digest_known


def folder_digest(folder: Path, kinds: tuple[str, ...], digest: Digest = digest_known) -> str:
    """sha256 over names and contents of the files of these suffixes, in the folder itself."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in kinds):
        whole.update(f"{path.name} {digest(path)}\n".encode())
    return whole.hexdigest()


def folder_as_planned(
    folder: Path | None, kinds: tuple[str, ...], planned: str | None
) -> AbstractContextManager[None]:
    """Checks that a folder's files are those of the digest `planned`, before and after they are
    read inside `with`. What has a name on the hub in place of a folder is not checked.

    Raises:
        StageFailed: the files have changed since the suite was planned, or while they were read.
    """
    if folder is None or planned is None:
        return contextlib.nullcontext()
    return as_planned(folder, planned, lambda digest: folder_digest(folder, kinds, digest))
