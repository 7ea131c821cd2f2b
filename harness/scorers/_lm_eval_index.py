"""Names and settings of lm-evaluation-harness's tasks, read from its files as text.

lm-eval's own index imports its libraries and reads 14,000 files as YAML, some 10 s. A plan needs a
few of these files, and the names of all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from harness.core.files import files_below
from harness.scorers._lm_eval_registry import defines, library

Settings = Mapping[str, Any]
"""The fields of a task's file, with those that it includes. A `!function` stands as its text."""
_NAMED = re.compile(
    r"""^["']?(?P<kind>task|group|tag|class)["']?[ \t]*:[ \t]*"""
    r"""(?P<value>[^\s#\[][^\n]*?|\[[^\]]*\])?[ \t]*(?:\#[^\n]*)?$"""
    r"""(?P<items>(?:\n[ \t]*(?:-[ \t][^\n]*|\#[^\n]*)?(?=\n|\Z))*)""",
    re.MULTILINE,
)
"""A key at the beginning of a line with its value, or with the lines of a list."""
_WORD = re.compile(r"[\w-]+")
"""A name that can be a folder's. `/` and `..` would lead out of lm-eval's."""
_INCLUDE = re.compile(r"""^include[ \t]*:[ \t]*["']?([^\s"'#]+)""", re.MULTILINE)
FUNCTION = "!function "
"""What a function stands as among the settings, before its name."""
_TASK, _GROUP, _TAG = "task", "group", "tag"


class _Loader(yaml.CSafeLoader):
    """Reads `!function x.y` as text: nothing is imported."""


def _as_text(loader: Any, suffix: str, node: Any) -> str:
    return f"{FUNCTION}{loader.construct_scalar(node)}"


_Loader.add_multi_constructor("!function", _as_text)


@dataclass(frozen=True)
class Task:
    """One task behind a name.

    Attributes:
        path: of its file, or of the group's that holds it.
    """

    name: str
    settings: Settings
    path: Path


@dataclass(frozen=True)
class Files:
    """The files that define a name.

    Attributes:
        kind: `task`, `group` or `tag`. A tag is defined by its tasks.
    """

    kind: str
    paths: tuple[Path, ...]


class Index:
    """Finds tasks, groups and tags by name, first in a folder of the suite.

    Args:
        include: the folder of task files that the suite names.
    """

    def __init__(self, include: Path | None = None) -> None:
        self.include = include
        self._nearby = {} if include is None else _defined(task_files(include))

    def names(self) -> Mapping[str, str]:
        """Every name -> `task`, `group` or `tag`."""
        everywhere = {name: files.kind for name, files in _everywhere().items()}
        return {**everywhere, **{name: files.kind for name, files in self._nearby.items()}}

    def find(self, name: str) -> Files | None:
        """The files that define a name; None where nothing is called so."""
        for index in self._nearest_first(name):
            if name in index:
                return index[name]
        return None

    def tasks(self, name: str) -> Iterator[Task]:
        """The tasks behind a name, as far as their files can be read."""
        yield from self._tasks(name, {}, ())

    def groups(self, name: str) -> Iterator[tuple[Path, Settings]]:
        """The file and settings of a name that is a group's."""
        files = self.find(name)
        if files is not None and files.kind == _GROUP:
            yield files.paths[0], _read(files.paths[0])

    def _nearest_first(self, name: str) -> Iterator[Mapping[str, Files]]:
        yield self._nearby
        words = re.split(r"[_-]", name) if _WORD.fullmatch(name) else []
        for count in range(len(words), 0, -1):  # most tasks lie in a folder of their name
            yield _beneath("_".join(words[:count]))
        yield _everywhere()

    def _tasks(self, name: str, changes: Settings, above: tuple[Path, ...]) -> Iterator[Task]:
        files = self.find(name)
        if files is None:
            if changes.get(_TASK) == name:  # it stands in the group's own file
                yield Task(name, changes, above[-1])
        elif files.kind == _TAG:
            # A tag can stand in a file that tasks beside it include.
            folders = dict.fromkeys(path.parent for path in files.paths)
            for path in dict.fromkeys(p for each in folders for p in task_files(each)):
                settings = _read(path)
                if isinstance(settings.get(_TASK), str) and name in _listed(settings.get(_TAG)):
                    yield Task(str(settings[_TASK]), {**settings, **changes}, path)
        elif files.kind == _TASK:
            path = files.paths[0]
            yield Task(name, {**_read(path), **changes}, path)
        elif files.paths[0] not in above:
            path = files.paths[0]
            yield from self._members(_read(path).get(_TASK), changes, (*above, path))

    def _members(self, members: Any, changes: Settings, above: tuple[Path, ...]) -> Iterator[Task]:
        for member in members if isinstance(members, list) else ():
            if isinstance(member, str):
                yield from self._tasks(member, changes, above)
            elif isinstance(member, Mapping):
                known = member.get(_GROUP) or member.get(_TASK)
                if isinstance(known, str):
                    yield from self._tasks(known, {**changes, **member}, above)
                if isinstance(member.get(_TASK), list):
                    yield from self._members(member[_TASK], changes, above)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def task_files(folder: Path) -> list[Path]:
    """The files in a folder and below that may be a task's: `*yaml`, as some have no suffix.

    Raises:
        HarnessError: it holds too many files to be a folder of tasks.
    """
    return [path for path in files_below(folder) if path.name.endswith("yaml")]


@cache
def _everywhere() -> Mapping[str, Files]:
    """All names of lm-eval."""
    return _defined(task_files(library()))


@cache
def _beneath(folder: str) -> Mapping[str, Files]:
    """The names in one of lm-eval's folders; some task files have no suffix."""
    return _defined(task_files(library() / folder))


def _defined(files: Iterable[Path]) -> Mapping[str, Files]:
    """Name -> the files that define it."""
    found: dict[str, tuple[str, list[Path]]] = {}
    for file, text in _with_included(files):
        entries = list(_NAMED.finditer(text))
        kinds = {each["kind"] for each in entries}
        # A group lists its tasks, unless the file has a class: then it is a task of that class.
        left_out = _GROUP if "class" in kinds else _TASK if _GROUP in kinds else ""
        for each in entries:
            if each["kind"] in (left_out, "class"):
                continue
            for name in _names_in(each["value"] or "", each["items"]):
                kind, paths = found.setdefault(name, (each["kind"], []))
                if kind == each["kind"]:
                    paths.append(file)
    return {name: Files(kind, tuple(paths)) for name, (kind, paths) in found.items()}


def _with_included(files: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """The files with their texts, and those that they include that are not called `*yaml`."""
    others: dict[Path, None] = {}
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        yield file, text
        for name in _INCLUDE.findall(text):
            if not name.endswith("yaml") and (file.parent / name).is_file():
                others[file.parent / name] = None
    for file in others:
        yield file, file.read_text(encoding="utf-8", errors="replace")


def _names_in(value: str, items: str) -> Iterator[str]:
    """The names in `name`, `[name, name]` or `- name` lines."""
    parts = value.strip("[]").split(",") if value.startswith("[") else [value]
    lines = (line.strip() for line in items.splitlines())
    parts += [line.removeprefix("-") for line in lines if line.startswith("-") and not value]
    for part in parts:
        name = part.split(" #")[0].strip().strip("'\"")
        if name not in ("", "null", "~") and ": " not in name:
            yield name


def _read(path: Path, above: frozenset[Path] = frozenset()) -> dict[str, Any]:
    """A task's file with what it includes; empty where it is no YAML mapping."""
    settings, _ = _loaded(path)
    if path in above:
        return {}
    included: dict[str, Any] = {}
    for name in _listed(settings.pop("include", [])):
        if isinstance(name, str):
            included |= _read((path.parent / name).resolve(), above | {path})
    return {**included, **settings}


_DEFAULTS = {
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "multiple_choice": ("acc", "acc_norm"),
    "generate_until": ("exact_match",),
}
"""The metrics of a task whose file names none, as lm-eval's DEFAULT_METRIC_REGISTRY has them."""


def metrics_of(tasks: Iterable[Task]) -> tuple[str, ...]:
    """The names of the metrics that these tasks report together, with the filter where they have
    several; empty if their files do not tell, as what a function returns."""
    names, filters = dict[str, None](), dict[str, None]()
    for task in tasks:
        settings, listed = task.settings, _metrics(task.settings)
        if not listed or settings.get("class") or settings.get("process_results"):
            return ()
        names.update(dict.fromkeys(listed))
        chosen = settings.get("filter_list") or [{"name": "none"}]
        filters.update(
            (str(each.get("name")), None) for each in chosen if isinstance(each, Mapping)
        )
    if len(filters) < 2:
        return tuple(names)
    return tuple(f"{name},{chosen}" for name in names for chosen in filters)


def _metrics(settings: Settings) -> list[str]:
    """The metrics that a task's file names; none if one of them is a function."""
    listed = settings.get("metric_list")
    if listed is None:
        return list(_DEFAULTS.get(str(settings.get("output_type", "generate_until")), ()))
    named = [each.get("metric") for each in _listed(listed) if isinstance(each, Mapping)]
    known = [name for name in named if isinstance(name, str) and not name.startswith(FUNCTION)]
    return known if len(known) == len(_listed(listed)) else []


def faults(path: Path, folder: Path) -> Iterator[str]:
    """What is wrong with a task's file before anything of it is run.

    Args:
        folder: the one that the suite names. Functions lie in it.
    """
    settings, fault = _loaded(path)
    if fault:
        yield f"it {fault}"
    for name in _listed(settings.get("include", [])):
        if not isinstance(name, str) or not (path.parent / name).is_file():
            yield f"include: there is no file {name!r} beside it"
        elif (path.parent / name).resolve() == path.resolve():
            yield "include: it includes itself"
    for field, value in settings.items():
        for named in _functions(value):
            file = _file_of(named, path.parent, folder)
            if file is None:
                yield (
                    f"{field}: !function {named} is neither in a file of the folder nor one of"
                    " lm_eval.tasks; NAME.rows is the function rows of NAME.py beside the task"
                )
            elif not defines(file, named.rpartition(".")[2]):
                yield f"{field}: !function {named}: {file.name} has no {named.rpartition('.')[2]}"


def _file_of(named: str, beside: Path, folder: Path) -> Path | None:
    """The file of a function; None if it lies neither in the folder that the suite names nor among
    lm-eval's tasks."""
    module = named.rpartition(".")[0].replace(".", "/")
    file = (beside / f"{module}.py").resolve()
    if file.is_file():
        return file if file.is_relative_to(folder.resolve()) else None
    shared = (library().parents[1] / f"{module}.py").resolve()
    return shared if shared.is_file() and shared.is_relative_to(library().resolve()) else None


def _functions(value: Any) -> Iterator[str]:
    """The functions that a field names."""
    if isinstance(value, str) and value.startswith(FUNCTION):
        yield value.removeprefix(FUNCTION)
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _functions(part)


def _loaded(path: Path) -> tuple[dict[str, Any], str]:
    """The mapping in a file, or why there is none."""
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        return {}, f"cannot be read: {error.strerror}"
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        return {}, f"cannot be read: {' '.join(str(error).split())}"
    return (settings, "") if isinstance(settings, dict) else ({}, "is no mapping of fields")
