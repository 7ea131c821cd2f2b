"""Digests of files and values, and atomic writes."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import HarnessError

MOST_FILES = 50_000
"""In a folder that a suite names; lm-eval's own tasks are 14,000."""


def canonical(value: Any, where: str = "config") -> Any:
    """The value as plain JSON values with sorted keys.

    Args:
        where: the place of the value, for messages.

    Raises:
        HarnessError: it contains a callable, an object, a non-finite number or a key that is not a
            string; their text could differ between runs or machines.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise HarnessError(
                f"{value!r} has no JSON form", where=where, fix="use a finite number"
            )
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise HarnessError(f"key {key!r} is not a string", where=where, fix="quote it")
        return {key: canonical(value[key], f"{where}.{key}") for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [canonical(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise HarnessError(
        f"a {type(value).__name__} cannot be part of a stage's identity",
        where=where,
        fix="pass a literal (number, string, list, mapping), or name the thing and its version",
    )


def digest_json(value: Any) -> str:
    """sha256 of the canonical JSON text of `value`."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def files_below(folder: Path) -> list[Path]:
    """The files in a folder and its folders, sorted. Linked folders are not entered.

    Raises:
        HarnessError: there are so many that reading them all would take minutes, as below `/`.
    """
    return sorted(path for path in map(Path, names_below(folder)) if path.is_file())


def names_below(folder: Path) -> list[str]:
    """The paths of what lies in a folder and its folders and is no folder, in no order, as text:
    it may be a link that leads nowhere.

    Raises:
        HarnessError: as `files_below`.
    """
    paths: list[str] = []
    for beneath, _, names in os.walk(folder):
        paths += (os.path.join(beneath, name) for name in names)
        if len(paths) > MOST_FILES:
            raise HarnessError(
                f"the folder {folder} holds more than {MOST_FILES:,} files, and all would be read",
                fix="name the folder that holds what is meant, and no more",
            )
    return paths


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader sees either the old file or the whole new one: write to a
    temporary file, flush it to disk, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
