"""What a suite knows of any two answers: a function in a Python file that the suite names."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import StageFailed
from harness.stage import digest_file, digest_json

Truth = Callable[[Mapping[str, Any], str, str], int | None]
"""truth(row, one, other): 1 where the first answer is better, -1 the other, 0 a tie; or None."""


def load_truth(path: Path, function: str, sha256: str) -> Truth:
    """The function of a file, which may import the files beside it relatively (`from .world ...`).

    Raises:
        StageFailed: not the file that was planned, one that cannot be imported, no such function.
    """
    if digest_file(path) != sha256:
        raise StageFailed("input changed", f"{path} has changed since the plan", fix="run again")
    package = f"_harness_truth_{digest_json([str(path), sha256])[:16]}"
    if package not in sys.modules:  # a package of its own, so that no name of the suite's clashes
        spec = importlib.machinery.ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(path.parent)]
        sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        module: ModuleType = importlib.import_module(f"{package}.{path.stem}")
    except Exception as error:
        raise StageFailed(
            "truth", f"{path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, function, None)
    if not callable(found):
        raise StageFailed(
            "truth", f"{path} has no function '{function}'", fix="write `truth: FILE.py:FUNCTION`"
        )

    def truth(row: Mapping[str, Any], one: str, other: str) -> int | None:
        said = found(row, one, other)
        if said is not None and (isinstance(said, bool) or said not in (-1, 0, 1)):
            raise StageFailed("truth", f"{function} of {path} gave {said!r}, not 1, 0, -1 or None")
        return None if said is None else int(said)

    return truth
