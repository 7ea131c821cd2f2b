"""The content of a folder that a scorer is made of: its identity, and what is loaded of it."""

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
    """What is loaded of the folder inside is what was planned; a name on the hub may be anything.

    Raises:
        StageFailed: it has changed since, or while it was read.
    """
    if folder is None or planned is None:
        return contextlib.nullcontext()
    return as_planned(folder, planned, lambda digest: folder_digest(folder, kinds, digest))
