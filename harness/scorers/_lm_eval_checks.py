"""What a plan can tell of benchmark tasks: names, code that would run, data that is not here.

Nothing of lm-eval is imported: its task files are read as text.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import SuiteError, shortened, unknown
from harness.core.text import number_of
from harness.scorers._lm_eval_data import FORMATS, missing_files
from harness.scorers._lm_eval_fields import group_faults, task_faults
from harness.scorers._lm_eval_index import Index, faults

_NEAREST, _SHOWN = 3, 6
_ROWS = frozenset(["dataset_path", "custom_dataset", "class"])
"""Fields by which a task has rows."""
_TRUE = frozenset(["1", "ON", "YES", "TRUE"])


def unknown_task(name: str, names: Collection[str]) -> str:
    """That lm-eval has no task of this name, with the nearest ones; it has thousands."""
    nearest = difflib.get_close_matches(name, names, n=_NEAREST, cutoff=0.5)
    if not nearest:
        return f"unknown task '{shortened(name)}'\n  lm-eval's: harness list tasks"
    hint = "the nearest; all: harness list tasks"
    return unknown("task", name, nearest, hint=hint)


def unmatched(pattern: str, names: Collection[str]) -> str:
    """That no task has a name of this pattern, with the patterns of a like beginning that some
    have, those of most tasks first."""
    beginning = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    heads = Counter(name[: end.end()] for name in names for end in re.finditer("_", name))
    alike = difflib.get_close_matches(beginning, heads, n=_NEAREST, cutoff=0.5)
    alike.sort(key=lambda head: (-round(_likeness(head, beginning), 2), -heads[head]))
    nearest = ", ".join(f"{head}* ({number_of(heads[head], 'name')})" for head in alike)
    guess = f"; did you mean '{alike[0]}*'?\n  the nearest: {nearest}" if alike else ""
    return f"no task matches '{shortened(pattern)}'{guess}\n  all tasks: harness list tasks PART"


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def require_readable(tasks: Sequence[str], index: Index, where: str) -> None:
    """Raise SuiteError for files that the suite brings, behind such a name, that cannot be read,
    that name functions outside their folder, or that have fields which lm-eval cannot use."""
    if index.include is None and not index.files:
        return
    for name in tasks:
        for path, wrong in _faults_behind(name, index):
            if wrong:
                raise _mend(path, wrong, name, index, where)


def _mend(path: Path, wrong: Iterable[str], name: str, index: Index, where: str) -> SuiteError:
    option = "tasks" if path in index.files.values() else "include_path"
    return SuiteError(
        f"{path}: {'; '.join(dict.fromkeys(wrong))}",
        where=f"{where}.{option}",
        fix=f"mend the file, which is behind the task {name}",
    )


def _faults_behind(name: str, index: Index) -> Iterator[tuple[Path, list[str]]]:
    """The files that the suite brings, behind a name, and what is wrong with each: first as files,
    then by their fields."""
    tasks = [task for task in index.tasks(name) if index.home(task.path) is not None]
    for path in dict.fromkeys((*_defining(index, name), *(task.path for task in tasks))):
        if (folder := index.home(path)) is not None:
            yield path, [*faults(path, folder)]
    groups = [*index.groups(name)]
    rows = any(settings.keys() & _ROWS for _, settings in groups)  # of members that are names alone
    for path, settings in groups:
        if index.home(path) is not None:
            strange = () if rows else _unknown_members(settings, index)
            yield path, [*group_faults(settings), *strange]
    for task in tasks:
        yield task.path, [*task_faults(task.settings, task.path.parent)]


def _unknown_members(group: Mapping[str, Any], index: Index) -> Iterator[str]:
    members = group.get("task")
    for member in members if isinstance(members, list) else ():
        if isinstance(member, str) and index.find(member) is None:
            yield f"task: {unknown_task(member, index.names())}"


def _defining(index: Index, name: str) -> Sequence[Path]:
    files = index.find(name)
    return () if files is None else files.paths


def require_code_allowed(tasks: Sequence[str], index: Index, where: str) -> None:
    """Raise SuiteError for tasks that run what a model writes."""
    unsafe = [
        task.name
        for name in tasks
        for task in index.tasks(name)
        if task.settings.get("unsafe_code")
    ]
    if unsafe:
        raise SuiteError(
            f"{_some(unsafe)} {'runs' if len(unsafe) == 1 else 'run'} the programs that a model"
            " writes",
            where=f"{where}.tasks",
            fix="set allow_code_execution: true, and they run inside bubblewrap; or leave the task"
            " out",
        )


def missing_data(
    tasks: Sequence[str], index: Index, local: Collection[str]
) -> dict[str, list[str]]:
    """Data set -> its configurations that the hub's cache on this machine does not have.

    Args:
        local: data sets whose rows come from elsewhere.
    """
    missing: dict[str, dict[str, None]] = {}
    for each in tasks:
        for task in index.tasks(each):
            path, name = (task.settings.get(f"dataset_{part}") for part in ("path", "name"))
            if not isinstance(path, str) or "custom_dataset" in task.settings or path in local:
                continue
            if path not in FORMATS and not Path(path).exists() and not _cached(path, name):
                missing.setdefault(path, {})[str(name or "default")] = None
    return {path: list(names) for path, names in missing.items()}


def require_data(tasks: Sequence[str], index: Index, local: Collection[str], where: str) -> None:
    """Raise SuiteError for files of rows that are not here; and for data of the hub that is not, on
    a machine that is told to stay offline."""
    for name in tasks:
        for task in index.tasks(name):
            brought = index.home(task.path) is not None and "class" not in task.settings
            if brought and (lost := [*missing_files(task.settings)]):
                raise _mend(task.path, lost, name, index, where)
    asked = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    offline = next((n for n in asked if os.environ.get(n, "").upper() in _TRUE), None)
    if offline is None:
        return  # the requests stage fetches it, before anything is trained
    if missing := missing_data(tasks, index, local):
        raise SuiteError(
            f"{_some(tasks)}: {told(missing)} not here, and {offline} forbids to fetch it",
            where=f"{where}.tasks",
            fix=how_to_get(missing),
        )


def told(missing: Mapping[str, Sequence[str]]) -> str:
    """The missing data sets, as the beginning of a sentence."""
    sets = [
        f"{path} ({_some(names) if len(names) < _SHOWN else f'{len(names)} configurations'})"
        for path, names in missing.items()
    ]
    return f"the data {'set' if len(sets) == 1 else 'sets'} {_some(sets)}" + (
        " is" if len(sets) == 1 else " are"
    )


def how_to_get(missing: Mapping[str, Sequence[str]]) -> str:
    """How to fetch data sets elsewhere, and where they are looked for."""
    calls = [
        f"load_dataset({path!r}{'' if name == 'default' else f', {name!r}'})"
        for path, names in missing.items()
        for name in names
    ]
    more = f" (and {len(calls) - 2} more such calls)" if len(calls) > 2 else ""
    script = f"from datasets import load_dataset; {'; '.join(calls[:2])}"
    folders, first = ", ".join(map(_folder, missing)), next(iter(missing))
    return (
        f'on a machine with a network: python -c "{script}"{more}; then copy {folders} from its'
        f" ~/.cache/huggingface/datasets into {cache_folder()}; or give local rows:"
        f" `datasets: {{{first}: FILE.py:FUNCTION}}`"
    )


def cache_folder() -> Path:
    """Where the datasets library keeps what it fetched."""
    if named := os.environ.get("HF_DATASETS_CACHE"):
        return Path(named).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", f"{caches}/huggingface")).expanduser() / "datasets"


def _cached(path: str, name: Any) -> bool:
    """Whether a configuration of a data set is in the cache, under NAME/VERSION/DIGEST."""
    pattern = f"{glob.escape(str(name))}*" if name else "*"
    return any(cache_folder().glob(f"{glob.escape(_folder(path))}/{pattern}/*/*"))


def _folder(path: str) -> str:
    """The name of a data set's folder in the cache."""
    *owner, name = path.split("/")
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return "___".join([*owner, re.sub(r"([a-z\d])([A-Z])", r"\1_\2", words).lower()])


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
