"""Sealed folders: costly results that a store keeps besides its stages, such as embeddings and
converted models.

A sealed folder is written once under a temporary name, and renamed when it is complete. Its last
file holds the digests of all other files, and of itself. It is checked whenever it is opened, and
made again if a file is missing or changed.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from harness.core.files import digest_file, digest_json, write_atomic
from harness.core.outside import Digest

SEAL = "digests.json"


def sealed(folder: Path, make: Callable[[Path], None], digest: Digest = digest_file) -> Path:
    """The folder, complete and checked. If it must be made, one process makes it, and others wait.

    Args:
        make: writes the files into an empty folder, which is its argument.
        digest: computes the sha256 of a file.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        damage = damaged(folder, digest)
        if damage and folder.exists():
            print(f"{folder}: {damage} is not what was written; made again", file=sys.stderr)
        if damage:
            _make(folder, make, digest)
    return folder


def damaged(folder: Path, digest: Digest = digest_file) -> str:
    """The first file that is missing or changed; empty if there is none."""
    try:
        seal = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        files, whole = seal["files"], digest_json(seal["files"]) == seal["sha256"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return SEAL
    if not whole:
        return SEAL
    return next((n for n, known in files.items() if _digest(folder / n, digest) != known), "")


def seals_in(root: Path) -> Iterator[Path]:
    """The sealed folders in a folder, complete or not."""
    yield from sorted(path.parent for path in root.glob(f"*/{SEAL}"))


def _make(folder: Path, make: Callable[[Path], None], digest: Digest) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    _remove(partial)  # left by a process that was killed
    partial.mkdir()
    try:
        make(partial)
        paths = sorted(path for path in partial.rglob("*") if path.is_file())
        files = {path.relative_to(partial).as_posix(): digest(path) for path in paths}
        seal = {"files": files, "sha256": digest_json(files)}
        write_atomic(partial / SEAL, json.dumps(seal))
        _remove(folder)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _digest(path: Path, digest: Digest) -> str:
    return digest(path) if path.is_file() else ""
