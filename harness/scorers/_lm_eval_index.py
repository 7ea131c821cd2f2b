"""Names and settings of lm-evaluation-harness's tasks, without lm-eval.

Its own index imports its libraries and reads 14,000 files as YAML, some 10 s. A plan needs a few of
these files, and the names of all; a run the same files, which `behind` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.scorers._lm_eval_registry import defines, library, registry
from harness.scorers._lm_eval_scan import (
    CLASS,
    FUNCTION,
    GROUP,
    INCLUDE,
    TAG,
    TASK,
    Files,
    Settings,
    defined,
    everywhere,
    functions,
    include_paths,
    load,
    read,
)


@dataclass(frozen=True)
class Task:
    """One task behind a name.

    Attributes:
        path: of its file, or of the group's that holds it.
    """

    name: str
    settings: Settings
    path: Path


class Index:
    """Finds tasks, groups and tags by name, first in a folder of the suite.

    Args:
        include: the folder of task files that the suite names.
        files: task or group -> its file, of those that the suite names by a file.
    """

    def __init__(
        self, include: Path | None = None, files: Mapping[str, Path] | None = None
    ) -> None:
        self.include, self.files = include, dict(files or {})
        self._nearby = {
            **({} if include is None else defined(include)),
            **{name: _of_file(path) for name, path in self.files.items()},
        }

    def names(self) -> Mapping[str, str]:
        """Every name -> `task`, `group` or `tag`."""
        return {name: files.kind for name, files in {**everywhere(), **self._nearby}.items()}

    def find(self, name: str) -> Files | None:
        """What defines a name; None where nothing is called so."""
        return self._nearby.get(name) or everywhere().get(name)

    def home(self, path: Path) -> Path | None:
        """The folder, among those that the suite names, in which a task's file lies; None where it
        is one of lm-eval's own."""
        if self.include is not None and path.is_relative_to(self.include):
            return self.include
        return path.parent if path in self.files.values() else None

    def behind(self, name: str) -> Mapping[str, Files]:
        """A name and all that it leads to: a group's members, a tag's tasks. Those that stand in
        the group's own file have none of their own."""
        reached: dict[str, Files] = {}
        waiting = [name]
        while waiting:
            files = self.find(each := waiting.pop())
            if files is None or each in reached:
                continue
            reached[each] = files
            members = read(files.paths[0]).get(TASK) if files.kind == GROUP else files.tasks
            waiting += _named(members)
        return reached

    def tasks(self, name: str) -> Iterator[Task]:
        """The tasks behind a name, as far as their files can be read."""
        yield from self._tasks(name, {}, ())

    def groups(self, name: str) -> Iterator[tuple[Path, Settings]]:
        """The files and settings of the groups behind a name, itself among them."""
        for files in self.behind(name).values():
            if files.kind == GROUP:
                yield files.paths[0], read(files.paths[0])

    def _tasks(self, name: str, changes: Settings, above: tuple[Path, ...]) -> Iterator[Task]:
        files = self.find(name)
        if files is None:
            if changes.get(TASK) == name:  # it stands in the group's own file
                yield Task(name, changes, above[-1])
        elif files.kind == TAG:
            for each in files.tasks:
                yield from self._tasks(each, {k: v for k, v in changes.items() if k != TASK}, above)
        elif files.kind == TASK:
            path = files.paths[0]
            yield Task(name, {**read(path), **changes}, path)
        elif files.paths[0] not in above:
            path = files.paths[0]
            yield from self._members(read(path), changes, (*above, path))

    def _members(
        self, group: Settings, changes: Settings, above: tuple[Path, ...]
    ) -> Iterator[Task]:
        """The tasks of a group. What is no field of a group is one of each of its tasks."""
        fields = registry().group_fields
        changes = {**{k: v for k, v in group.items() if k not in fields}, **changes}
        members = group.get(TASK)
        for member in members if isinstance(members, list) else ():
            if isinstance(member, str):
                yield from self._tasks(member, changes, above)
            elif isinstance(member, Mapping) and isinstance(known := member.get(GROUP), str):
                if self.find(known) is None:
                    yield from self._members(member, changes, above)
                else:
                    others = {k: v for k, v in member.items() if k != GROUP}
                    yield from self._tasks(known, {**changes, **others}, above)
            elif isinstance(member, Mapping) and isinstance(known := member.get(TASK), str):
                yield from self._tasks(known, {**changes, **member}, above)


def _of_file(path: Path) -> Files:
    settings = read(path)
    return Files(GROUP if GROUP in settings and CLASS not in settings else TASK, [path])


def _named(members: Any) -> Iterator[str]:
    """The names that a group's list of members uses, those of groups inside it too."""
    for member in members if isinstance(members, list) else ():
        if isinstance(member, str):
            yield member
        elif isinstance(member, Mapping):
            yield from (known for key in (GROUP, TASK) if isinstance(known := member.get(key), str))
            yield from _named(member.get(TASK))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


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
        folder: the one that the suite names. Functions and what is included lie in it.
    """
    _, fault = load(path)
    if fault:
        yield f"it {fault}"
    yield from _include_faults(path, folder)
    for file in (path, *include_paths(path)):
        if not file.is_relative_to(library()):
            yield from _function_faults(file, folder, "" if file == path else f"{file.name}: ")


def _include_faults(path: Path, folder: Path) -> Iterator[str]:
    for name in _listed(load(path)[0].get(INCLUDE, [])):
        if not isinstance(name, str) or not (path.parent / name).is_file():
            yield f"include: there is no file {name!r} beside it"
    for file in include_paths(path):
        if file == path.resolve():
            yield "include: it includes itself"
        elif not any(file.is_relative_to(each.resolve()) for each in (folder, library())):
            yield (
                f"include: {file} lies outside {folder}, and only what lies in a folder that the"
                " suite names is used; copy it there"
            )
        elif file.is_file() and (fault := load(file)[1]):
            yield f"include: {file.name} {fault}"


def _function_faults(path: Path, folder: Path, before: str) -> Iterator[str]:
    for field, value in load(path)[0].items():
        for named in functions(value):
            file, name = _allowed_file(named, path.parent, folder), named.rpartition(".")[2]
            if file is None:
                yield (
                    f"{before}{field}: !function {named} is neither in a file of the folder nor one"
                    " of lm_eval.tasks; NAME.rows is the function rows of NAME.py beside the task"
                )
            elif not defines(file, name):
                yield f"{before}{field}: !function {named}: {file.name} has no {name}"


def _allowed_file(named: str, beside: Path, folder: Path) -> Path | None:
    """The file of a function; None if it lies neither in the folder that the suite names nor among
    lm-eval's tasks."""
    file = function_file(named, beside)
    if file is not None:
        return file if file.is_relative_to(folder.resolve()) else None
    shared = function_file(named, library().parents[1])
    return shared if shared is not None and shared.is_relative_to(library().resolve()) else None


def function_file(named: str, beside: Path) -> Path | None:
    """The Python file in a folder, or below, that a function is named to be in."""
    module = named.rpartition(".")[0].replace(".", "/")
    file = (beside / f"{module}.py").resolve()
    return file if file.is_file() else None
