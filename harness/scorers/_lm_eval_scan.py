"""Which files define lm-evaluation-harness's tasks, groups and tags: read as text.

lm-eval's own index reads 14,000 files as YAML, some 10 s. Names stand at the beginning of lines, so
that a scan finds them in the same files in half a second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from harness.core.files import names_below
from harness.scorers._lm_eval_registry import library

Settings = Mapping[str, Any]
"""The fields of a task's file, with those that it includes. A `!function` stands as its text."""
FUNCTION = "!function "
"""What a function stands as among the settings, before its name."""
TASK, GROUP, TAG, CLASS, INCLUDE = "task", "group", "tag", "class", "include"
_KEY = re.compile(
    rf"""^["']?(?P<key>{TASK}|{GROUP}|{TAG}|{CLASS}|{INCLUDE})["']?[ \t]*:(?=\s|\Z)[ \t]*"""
    r"""(?P<value>[^\s#\[][^\n]*?|\[[^\]]*\])?[ \t]*(?:(?<=\s)\#[^\n]*)?\r?$"""
    r"""(?P<items>(?:\n[ \t]*(?:-[ \t][^\n]*|\#[^\n]*)?(?=\n|\Z))*)""",
    re.MULTILINE,
)
"""A key at the beginning of a line with its value, or with the lines of a list."""
_NOT_PLAIN = re.compile(r"""[&*!|>]|"[^"]*\\|(["'])(?:(?!\1).)*\Z""")
"""The beginning of a value that needs YAML's own reader: `&name value`, `>-`, `"\\u0041"`, and a
quoted ` #`, before which the value seems to end."""
_LEFT_OUT = ("__pycache__", ".ipynb_checkpoints")
"""Folders that lm-eval does not look into."""


class _Loader(yaml.CSafeLoader):
    """Reads `!function x.y` as text: nothing is imported."""


def _as_text(loader: Any, suffix: str, node: Any) -> str:
    return f"{FUNCTION}{loader.construct_scalar(node)}"


_Loader.add_multi_constructor("!function", _as_text)


@dataclass(frozen=True)
class Files:
    """What defines a name.

    Attributes:
        kind: `task`, `group` or `tag`.
        paths: its file; those of a tag's tasks.
        tasks: the names of a tag's tasks.
    """

    kind: str
    paths: list[Path]
    tasks: list[str] = field(default_factory=list)


@cache
def everywhere() -> Mapping[str, Files]:
    """All names of lm-eval."""
    return defined(library())


def defined(folder: Path) -> Mapping[str, Files]:
    """Name -> what defines it, in a folder and below: by the rules, and in the order, of lm-eval's
    own index, where the first file of a name counts.

    Raises:
        HarnessError: it holds too many files to be a folder of tasks.
    """
    keys = _Keys()
    names: dict[str, Files] = {}
    for path in _task_files(folder):
        told = keys.of(path)
        kind = GROUP if GROUP in told and CLASS not in told else TASK
        name = told.get(kind)
        if not isinstance(name, str) or name in names:
            continue
        file = Path(path)
        names[name] = Files(kind, [file])
        for tag in _listed(told.get(TAG)) if kind == TASK else ():
            tagged = names.setdefault(tag, Files(TAG, []))
            if tagged.kind == TAG:
                tagged.paths.append(file)
                tagged.tasks.append(name)
    return names


def _task_files(folder: Path) -> list[str]:
    """The files that may define a name. Those that they include may be called otherwise."""
    return sorted(
        name
        for name in names_below(folder)
        if name.endswith(".yaml") and not any(f"/{each}/" in name for each in _LEFT_OUT)
    )


class _Keys:
    """The keys of files that lead to names, each file read once."""

    def __init__(self) -> None:
        self._read: dict[str, dict[str, Any]] = {}

    def of(self, path: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
        """A file's keys with those of the files that it includes."""
        if path in above:
            return {}
        if path not in self._read:
            self._read[path] = _keys(path)
        merged: dict[str, Any] = {}
        for name in _listed(self._read[path].get(INCLUDE)):
            beside = os.path.normpath(os.path.join(os.path.dirname(path), name))
            merged |= self.of(beside, (*above, path))
        return merged | self._read[path]


def _keys(path: str) -> dict[str, Any]:
    """A file's own keys, and their values as far as they are names; none if it cannot be read."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8", errors="replace")
    except OSError:  # a folder, or a link that leads nowhere, may be called so
        return {}
    text = text.partition("\n---")[0]  # what follows makes no task file of it
    lines = list(_KEY.finditer(text))
    keys = {each["key"]: _value(each["value"] or "", each["items"]) for each in lines}
    moved = not keys and path.endswith(".yaml")  # written in braces, or to the right
    if moved or any(_NOT_PLAIN.match(each["value"] or "") for each in lines):
        keys = {key: value for key, value in load(Path(path))[0].items() if key in _ALL}
    return keys


_ALL = (TASK, GROUP, TAG, CLASS, INCLUDE)


def _value(value: str, items: str) -> Any:
    """The name, or names, that stand as `name`, `[name, name]` or `- name` lines."""
    if value and not value.startswith("["):
        return _bare(value)
    lines = (line.strip() for line in items.splitlines())
    written = [line.removeprefix("-") for line in lines if line.startswith("-")]
    parts = value.strip("[]").split(",") if value else written
    names = [_bare(part) for part in parts]
    return [name for name in names if name is not None and ": " not in name]


def _bare(text: str) -> str | None:
    """A name without its comment and quotes."""
    name = re.split(r"\s#", text)[0].strip().strip("'\"")
    return None if name in ("", "null", "~") else name


def _listed(value: Any) -> list[str]:
    return [each for each in (value if isinstance(value, list) else [value]) if type(each) is str]


def read(path: Path, above: frozenset[Path] = frozenset()) -> dict[str, Any]:
    """A task's file with what it includes; empty where it is no YAML mapping."""
    settings, _ = load(path)
    if path in above:
        return {}
    included: dict[str, Any] = {}
    for name in _listed(settings.get(INCLUDE, [])):
        included |= read((path.parent / name).resolve(), above | {path})
    return {**included, **{key: value for key, value in settings.items() if key != INCLUDE}}


def include_paths(path: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """The files that a task's file includes, and those that they include; itself where it includes
    itself. They may not be there."""
    if path in above:
        return
    for name in _listed(load(path)[0].get(INCLUDE)):
        yield (included := (path.parent / name).resolve())
        yield from include_paths(included, above | {path})


def load(path: Path) -> tuple[Settings, str]:
    """The mapping in a file, or why there is none."""
    return _load_own(path) if path.is_relative_to(library()) else _load(path)


def _load(path: Path) -> tuple[Settings, str]:
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        return {}, f"cannot be read: {error.strerror}"
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        return {}, f"cannot be read: {' '.join(str(error).split())}"
    return (settings, "") if isinstance(settings, dict) else ({}, "is no mapping of fields")


_load_own = cache(_load)
"""lm-eval's own files do not change: each is read once."""


def functions(value: Any) -> Iterator[str]:
    """The functions that a field names."""
    if isinstance(value, str) and value.startswith(FUNCTION):
        yield value.removeprefix(FUNCTION)
    elif isinstance(value, Mapping | list):
        parts: Iterable[Any] = value.values() if isinstance(value, Mapping) else value
        for part in parts:
            yield from functions(part)
