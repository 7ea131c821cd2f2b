"""What stands under `tasks:`: names of lm-eval, patterns of names, task files and folders of them,
as `lm_eval --tasks` takes them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.core.errors import SuiteError, shortened
from harness.core.locate import locate
from harness.data.preference_rule import imported_beside
from harness.scorers._lm_eval_checks import unknown_task, unmatched
from harness.scorers._lm_eval_data import local_files
from harness.scorers._lm_eval_index import Index, function_file
from harness.scorers._lm_eval_scan import CLASS, GROUP, TASK, functions, include_paths, load, read

_WILD = re.compile(r"[*?[]")
_ENDINGS = (".yaml", ".yml")


def resolved_tasks(
    texts: Sequence[str], index: Index, suite_file: Path, where: str
) -> tuple[list[str], dict[str, str]]:
    """The names of all tasks, groups and tags that are meant, each once; and those that files
    define, with their files.

    A pattern means every name that it matches, as lm-eval's `TaskManager.match_tasks` does.

    Args:
        where: the scorer's place in the suite.

    Raises:
        SuiteError: a name, pattern, file or folder that is not there; a file that defines no task;
            two of one name.
    """
    for name, path in index.files.items():
        if (other := _defined_name(path, f"{where}.files.{name}")) != name:
            message = f"{path} defines '{other}', and not '{name}'"
            raise SuiteError(message, where=f"{where}.files", fix=f"write {other}: {path.name}")
    meant: dict[str, Path | None] = {}
    for number, text in enumerate(texts):
        place = f"{where}.tasks[{number}]"
        names, paths = _meant(text, index, suite_file, place)
        for name, file in [
            *((name, index.files.get(name)) for name in names),
            *((_defined_name(path, place), path) for path in paths),
        ]:
            if meant.setdefault(name, file) != file:
                both = " and ".join(
                    str(each or "lm-eval or include_path") for each in (meant[name], file)
                )
                raise SuiteError(
                    f"two tasks are called '{name}', of {both}",
                    where=place,
                    fix="rename one, or give it to a second lm_eval scorer with a `label:`",
                )
    return list(meant), {name: str(file) for name, file in meant.items() if file is not None}


def _meant(
    text: str, index: Index, suite_file: Path, place: str
) -> tuple[list[str], Sequence[Path]]:
    """The names, or the files, that a text stands for."""
    if index.find(text) is not None:
        return [text], ()
    if text.endswith(_ENDINGS):
        return [], _files(text, suite_file, place)
    if _WILD.search(text):
        if matches := sorted(fnmatch.filter(index.names(), text)):
            return matches, ()
        raise SuiteError(unmatched(text, index.names()), where=place)
    folder = locate(text, suite_file, place)
    if folder is None or not folder.is_dir():
        raise SuiteError(unknown_task(text, index.names()), where=place)
    return [], _defining(folder.glob("*.yaml"), folder, place)


def _files(text: str, suite_file: Path, place: str) -> Sequence[Path]:
    """The files of a path that ends as a task file does; several where it is a pattern."""
    parts = Path(text).parts
    fixed = next((n for n, part in enumerate(parts) if _WILD.search(part)), None)
    if fixed is not None:
        folder = locate(str(Path(*parts[:fixed])), suite_file, place)
        if folder is None or not folder.is_dir():
            raise SuiteError(f"there is no folder '{Path(*parts[:fixed])}'", where=place)
        return _defining(folder.glob(str(Path(*parts[fixed:]))), folder, place)
    file = locate(text, suite_file, place)
    if file is None or not file.is_file():
        raise SuiteError(f"there is no file '{shortened(text)}'", where=place)
    return [file]


def _defining(paths: Iterable[Path], folder: Path, place: str) -> list[Path]:
    """The files that define a task or group, or cannot be read, which is told of them. The others
    are there to be included."""
    matches = sorted(path for path in paths if path.is_file())
    files = [path for path in matches if load(path)[1] or _name(path) is not None]
    if not files:
        reason = "its files define none" if matches else "there is no such file"
        raise SuiteError(
            f"no task in {folder}: {reason}", where=place, fix="name a folder with task files"
        )
    return files


def _defined_name(path: Path, place: str) -> str:
    _, fault = load(path)
    name = None if fault else _name(path)
    if name is None:
        raise SuiteError(
            f"{path}: {f'it {fault}' if fault else 'it names no `task:` and no `group:`'}",
            where=place,
            fix="mend the file, or name another",
        )
    return name


def _name(path: Path) -> str | None:
    settings = read(path)
    name = settings.get(GROUP if GROUP in settings and CLASS not in settings else TASK)
    return name if isinstance(name, str) and name else None


def task_files(path: Path) -> list[Path]:
    """A task's file, and the files that it is made of: those that it includes, the Python files of
    its functions with what they import beside them, and files of its rows."""
    folder = path.parent
    return list(dict.fromkeys([path, *sorted(_parts(path, folder))]))


def _parts(path: Path, folder: Path) -> Iterator[Path]:
    settings = read(path)
    yield from local_files(settings, folder)
    for file in (path, *include_paths(path)):
        if file.is_file():
            yield file
        for named in functions(load(file)[0]):
            code = function_file(named, file.parent)
            if code is not None and code.is_relative_to(folder.resolve()):
                yield from _with_imports(code)


def _with_imports(code: Path) -> list[Path]:
    try:
        return imported_beside(code)
    except SyntaxError:  # which running it tells
        return [code]
