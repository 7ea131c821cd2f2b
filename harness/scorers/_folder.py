"""The content of a folder that a scorer is made of, for its identity."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


def folder_digest(folder: Path, kinds: tuple[str, ...]) -> str:
    """sha256 over names and contents of the files of these suffixes, in the folder itself."""
    files = sorted(path for path in folder.iterdir() if path.suffix in kinds)
    return _digest(tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files))


@cache
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for name, _, _ in files:
        with open(name, "rb") as handle:
            own = hashlib.file_digest(handle, "sha256").hexdigest()
        whole.update(f"{Path(name).name} {own}\n".encode())
    return whole.hexdigest()
