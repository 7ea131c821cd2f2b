"""Locates files that a suite names: beside it, in the working folder, or in the package."""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path

from harness.core.errors import SuiteError, near
from harness.core.secrecy import secret_variable

BASELINES = Path("baselines")
"""The folder of stored baselines, in the working folder."""
BASELINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
STORE = Path("results/store")
"""The folder of the cached stages, where nothing else is said."""


def package_suites() -> Path:
    """The folder of the package's suites: in the package if it is installed, beside it in a
    checkout."""
    inside = Path(__file__).parents[1] / "suites"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "suites"


def packaged_suites() -> dict[str, Path]:
    """Name -> file of the suites that come with the package. Task files of benchmarks, which lie in
    folders beside them, are none: a suite names its models."""
    root = package_suites()
    return {
        path.relative_to(root).with_suffix("").as_posix(): path
        for path in sorted(root.rglob("*.yaml"))
        if _NAMES_MODELS.search(path.read_text(encoding="utf-8"))
    }


def find_suite(name: str) -> Path:
    """The file of a suite.

    Args:
        name: a path, or the name of a suite of the package, such as `pocket/demo`.

    Raises:
        SuiteError: there is no such file. The message names the nearest one in the same folder or
            in the package.
    """
    path = Path(name)
    is_file = is_there(path) and path.is_file()
    if is_file and path.suffix in (".yaml", ".yml"):
        return path
    packaged = package_suites() / f"{name.removesuffix('.yaml')}.yaml"
    if is_there(packaged) and packaged.is_file():
        return packaged
    if is_file:
        raise SuiteError(
            "the name of a suite's file ends in .yaml or .yml", where=_short(name), fix="rename it"
        )
    known, is_folder = packaged_suites(), is_there(path) and path.is_dir()
    beside = _yaml_files(path if is_folder else path.parent)
    stem = re.sub(r"\.ya?ml$", "", name)
    meant = next(iter(beside), "") if is_folder else near(stem, [*beside, *known])
    guess = f"; did you mean '{beside.get(meant, meant)}'?" if meant else ""
    raise SuiteError(
        f"no suite file '{_short(name)}'{', which is a folder' if is_folder else ''}{guess}",
        fix="`harness init FILE` writes one to start from; the package's: harness list suites",
    )


def _yaml_files(folder: Path) -> dict[str, str]:
    """The YAML files in a folder as they would be typed, by that name without its ending; none
    where the folder must not be read."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    except OSError:
        return {}
    return {str(path.with_suffix("")): str(path) for path in paths}


_NAMES_MODELS = re.compile(r"^models:", re.MULTILINE)
_HUB_NAME = re.compile(r"(\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b", re.ASCII)
_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".yaml", ".jinja",
          ".safetensors", ".gguf")  # fmt: skip
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def locate(reference: str, suite_file: Path, where: str) -> Path | None:
    """The file or folder that a reference in a suite names; None if it is a name on the hub.

    It is looked up in the suite's folder, the working folder, then the package's suites. `${NAME}`
    is replaced by the environment variable of that name.

    Args:
        where: the place in the suite, for messages.

    Raises:
        SuiteError: a variable is not set or may hold a secret, or there is no such path.
    """

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        if secret_variable(name):
            raise SuiteError(
                f"environment variable {name} may hold a secret, and paths are written into the"
                " store and the report",
                where=where,
                fix="name the folder by another variable",
            )
        if name not in os.environ:
            raise SuiteError(
                f"environment variable {name} is not set", where=where, fix=f"export {name}=..."
            )
        return os.environ[name]

    text = _VARIABLE.sub(fill, reference)
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise SuiteError(f"there is no user of '{_short(text)}'", where=where) from None
    for root in (suite_file.parent, Path.cwd(), package_suites()):
        if is_there(root / path, where):
            return (root / path).resolve()
    if path.suffix in _FILES or not can_be_on_the_hub(text):
        meant = _nearest(path, (suite_file.parent, Path.cwd(), package_suites()))
        guess = f"; did you mean '{meant}'?" if meant else ""
        raise SuiteError(
            f"there is no '{_short(text)}'{guess}",
            where=where,
            fix=f"looked in {suite_file.parent}, the working folder and the package's suites",
        )
    return None


def can_be_on_the_hub(name: str) -> bool:
    """Whether the Hugging Face hub takes this as the name of a repository; its client raises an
    error of its own at any other."""
    return (
        _HUB_NAME.fullmatch(name) is not None
        and not any(part in name for part in ("--", ".."))
        and not name.endswith(".git")
    )


_MOST_BESIDE = 1000
"""Files of a folder that a misspelt name is compared with."""


def _nearest(path: Path, roots: Iterable[Path]) -> str:
    """The path that was most likely meant: of the same folder, with a similar name; or empty."""
    for root in roots:
        try:
            beside = list(itertools.islice((root / path).parent.iterdir(), _MOST_BESIDE))
        except OSError:  # there is no such folder, or it must not be read
            continue
        names = {other.stem: other.name for other in beside}
        for stem in difflib.get_close_matches(path.stem[:200], names, n=1):
            return str(path.with_name(names[stem]))
    return ""


def is_there(path: Path, where: str = "") -> bool:
    """True if there is a file or folder at a path.

    Raises:
        SuiteError: this cannot be checked: the name is too long, or a folder must not be read.
    """
    try:
        return path.exists()
    except OSError as error:
        message = f"'{_short(str(path))}' cannot be looked for: {error.strerror}"
        raise SuiteError(message, where=where) from None


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."
