"""The folder of a report, chosen so that a report of something else stays as it is."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.core.errors import SuiteError
from harness.core.locate import find_suite

REPORTS = Path("reports")
STAMP = ".inputs"
"""File of a report that says what it was made of."""


def free(usual: Path, taken: Callable[[Path], bool]) -> Path:
    """The folder of this name, or with a number behind it, that is not taken."""
    numbered = (usual.with_name(f"{usual.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([usual], numbered) if not taken(folder))


def folder_of(suite: Path, name: str) -> Path:
    """The folder under reports/ of a suite's report, by the suite's name; if the report of another
    suite, or of an import, has that folder, with a number behind it."""
    return free(REPORTS / name, lambda folder: _of_another(folder, suite))


def about_folder(folder: Path, usual: Path) -> str:
    """Why a report is not where it would be; empty if it is."""
    if folder == usual:
        return ""
    return f" ({usual} has another report; --report-dir {usual} replaces it)"


def place(suite: Path, folder: Path) -> str:
    """Where a suite's file lies, seen from its report: both may move together."""
    return os.path.relpath(suite.resolve(), folder.resolve())


def stamp(folder: Path) -> dict[str, Any] | None:
    """What a report's stamp says; None if it has none that can be read. It has the text of the
    terminal, a digest of what was compared, and the report's files."""
    try:
        content = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and {"text", "inputs", "files"} <= content.keys()
    return content if whole else None


def _of_another(folder: Path, suite: Path) -> bool:
    """Whether a folder has the report of another suite, or one that no suite made. A suite whose
    file is gone was renamed, or was written anew at another place, as pipelines do it."""
    if not (folder / "index.html").exists():
        return False
    told = (stamp(folder) or {}).get("suite")
    if told is None:  # the stamp is of an older version, or is not kept with the report
        return suite.resolve() not in _named(folder)
    return bool(told != place(suite, folder)) and (folder / str(told)).is_file()


def _named(folder: Path) -> set[Path]:
    """The suites that the command in a report names."""
    try:
        text = (folder / "report.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return set()
    _, _, command = text.partition("\n## To make this again\n")
    asked = re.search(r"^harness (?:run|report) .*$", command, re.MULTILINE)
    found: set[Path] = set()
    with contextlib.suppress(ValueError):  # somebody has changed its quotes
        words = shlex.split(asked[0])[2:] if asked else []
        for word in words:
            with contextlib.suppress(SuiteError):
                found.add(find_suite(word).resolve())
    return found
