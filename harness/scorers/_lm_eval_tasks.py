"""lm-evaluation-harness's tasks: found by name, with local data in the place of the hub's, and
refused in one sentence where they cannot be loaded."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from harness.core.errors import HarnessError, StageFailed, unknown

DataFunction = Callable[[str], Mapping[str, Sequence[Mapping[str, Any]]]]
"""Name of a configuration (a subject of MMLU) -> split -> rows."""
_NEAREST = 3


def load_tasks(
    names: Sequence[str],
    include_path: Path | None,
    local_data: Mapping[str, DataFunction],
    *,
    allow_code: bool,
) -> dict[str, Any]:
    """Tasks and groups as `lm_eval.tasks.TaskManager.load` returns them: `tasks`, `groups`.

    Args:
        names: of tasks, groups and tags, as lm-eval has them.
        include_path: a folder of task YAMLs, searched before lm-eval's own.
        local_data: data set on the hub -> the function that gives its rows instead.
        allow_code: whether tasks that run generated code may be loaded.

    Raises:
        StageFailed: an unknown name (with the nearest), a task file that cannot be read, data that
            cannot be had, a task that runs code.
    """
    manager = _manager_of(tuple(names), include_path)
    loaded: dict[str, Any] = {"tasks": {}, "groups": {}}
    for name in names:
        if name not in manager.all_tasks:
            raise StageFailed("unknown task", unknown_task(name, manager.all_tasks))
        with _explained(name, manager), _in_place_of_the_hub(local_data), _without_code(allow_code):
            parts = manager.load([name])
        loaded["tasks"] |= parts["tasks"]
        loaded["groups"] |= parts["groups"]
    for name, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False) and not allow_code:
            raise StageFailed(
                "code execution is off",
                f"the task {name} runs the programs that a model writes",
                fix="set allow_code_execution: true; they then run inside bubblewrap",
            )
        if getattr(task, "UNSAFE_CODE", False) and not any(_code_evals(task)):
            raise StageFailed(
                "code outside the sandbox",
                f"the task {name} runs the programs that a model writes in a way of its own, and"
                " not by evaluate's code_eval, in whose place the sandbox stands",
                fix="leave the task out; run it with lm-eval itself on a machine that may be lost",
            )
        for code_eval in _code_evals(task):
            code_eval.imported, code_eval.allowed = True, allow_code
    return loaded


def _code_evals(task: Any) -> Iterator[CodeEval]:
    """What stands in the place of code_eval in the modules of a task's own functions."""
    functions = [*getattr(task, "_metric_fn_list", {}).values(), task.config.process_results]
    for function in functions:
        # lm-eval keeps the call of a function, and evaluate's metrics as a method.
        for layer in (
            function,
            getattr(function, "func", None),
            getattr(function, "__self__", None),
        ):
            if isinstance(layer, CodeEval):
                yield layer
            for value in getattr(layer, "__globals__", {}).values():
                if isinstance(value, CodeEval):
                    yield value


def unknown_task(name: str, names: Sequence[str]) -> str:
    """That lm-eval has no task of this name, with the nearest ones; it has thousands."""
    nearest = difflib.get_close_matches(name, names, n=_NEAREST, cutoff=0.5)
    return unknown("task", name, nearest, hint="the nearest of lm-eval's and of include_path")


def _manager_of(names: tuple[str, ...], include_path: Path | None) -> Any:
    """An index of tasks that has these names, if there is one. lm-eval's own index reads 14,000
    files as YAML, some 10 s, so that the folders which seem to have the names are tried first."""
    named = () if include_path is None else (include_path,)
    manager = _manager((*_folders(names), *named), defaults=False)
    if all(_whole(name, manager.task_index) for name in names):
        return manager
    return _manager(named, defaults=True)


def _whole(name: str, index: Mapping[str, Any]) -> bool:
    """Whether all tasks of a group or tag are in the index too."""
    if name not in index:
        return False
    config = index[name].cfg
    if config is None:  # a tag; of those in several folders an index of these keeps one
        return len(_folders((name,))) <= 1
    children = config.get("task", ())
    if not isinstance(children, list):
        return True
    named = (child.get("task") if isinstance(child, dict) else child for child in children)
    return all(isinstance(child, str) and _whole(child, index) for child in named)


@cache
def _manager(paths: tuple[Path, ...], *, defaults: bool) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=[str(path) for path in paths], include_defaults=defaults)


@cache
def _folders(names: tuple[str, ...]) -> tuple[Path, ...]:
    """lm-eval's folders with a file that defines a task, group or tag of one of these names."""
    either = "|".join(map(re.escape, names))
    defines = re.compile(
        rf"""^\s*(?:(?:task|group|tag)\s*:|-)\s*["']?(?:{either})["']?\s*(?:\#.*)?$"""
        rf"""|^\s*tag\s*:\s*\[(?:[^\]\n]*[\s,])?["']?(?:{either})["']?\s*[,\]]""",
        re.MULTILINE,
    )
    return tuple(folder for folder, text in _texts().items() if defines.search(text))


@cache
def _texts() -> Mapping[Path, str]:
    """The text of all task files in each of lm-eval's folders; some have no suffix."""
    import lm_eval

    root = Path(lm_eval.__file__).parent / "tasks"
    texts: dict[Path, list[str]] = {}
    for file in sorted(root.rglob("*yaml")):
        folder = root / file.relative_to(root).parts[0]
        texts.setdefault(folder, []).append(file.read_text(encoding="utf-8"))
    return {folder: "\n".join(parts) for folder, parts in texts.items()}


def run_tasks(engine: Any, loaded: Mapping[str, Any], name: str, **options: Any) -> dict[str, Any]:
    """`lm_eval.evaluate`, without its own intervals (ours are of the rows).

    Raises:
        StageFailed: the task's filters, metrics or functions fail. A fault of the model is raised
            as it is.
    """
    import lm_eval

    try:
        results: dict[str, Any] = lm_eval.evaluate(
            engine, loaded, bootstrap_iters=0, log_samples=True, **options
        )
    except HarnessError:
        raise
    except Exception as error:
        frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
        if any(f"harness{os.sep}inference" in file for file in frames):
            raise
        raise StageFailed(
            "task cannot be scored",
            f"the task {name} cannot be scored: {_first_line(error)} (in {frames[-1]})",
            fix="mend the task's file: its filters, its metrics or its functions",
        ) from error
    return results


@contextlib.contextmanager
def _explained(name: str, manager: Any) -> Iterator[None]:
    """Faults of a task's file or data, told with the file and the reason."""
    try:
        yield
    except StageFailed:
        raise
    except Exception as error:
        entry = manager.task_index.get(name)
        place = getattr(entry, "yaml_path", None)
        missing = _data_set(error)
        if missing:
            raise StageFailed(
                "no data",
                f"the task {name} needs the data set {missing}, which is neither in the hub's cache"
                f" nor can be fetched ({_first_line(error)})",
                fix=f'fetch it once with a network (python -c "from datasets import load_dataset;'
                f" load_dataset('{missing}')\"), copy HF_HOME from a machine that has it, or give"
                f" local rows: datasets: {{{missing}: FILE.py:FUNCTION}}",
            ) from error
        raise StageFailed(
            "task cannot be loaded",
            f"the task {name} ({place}) cannot be loaded: {_first_line(error)}",
            fix="mend the task's file, or the function that gives its rows",
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _data_set(error: BaseException) -> str | None:
    """The data set that was being loaded when this was raised, if one was."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "load_dataset" and "datasets" in frame.f_code.co_filename:
            return str(frame.f_locals.get("path"))
    return None


@contextlib.contextmanager
def _in_place_of_the_hub(local_data: Mapping[str, DataFunction]) -> Iterator[None]:
    """lm-eval's tasks load their data through `datasets.load_dataset`; what is here is not asked of
    the hub."""
    import datasets
    from lm_eval.api import task as lm_eval_task

    fetch = datasets.load_dataset

    def load_dataset(path: str, name: str | None = None, **options: Any) -> Any:
        if path not in local_data:
            return fetch(path=path, name=name, **options)
        splits = local_data[path](name or "default")
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_list(list(rows)) for split, rows in splits.items()}
        )

    with mock.patch.object(lm_eval_task.datasets, "load_dataset", load_dataset):
        yield


@contextlib.contextmanager
def _without_code(allowed: bool) -> Iterator[None]:
    """Tasks of code load evaluate's `code_eval` from the hub and try it as they are imported. In
    its place stands our own, which runs programs in a sandbox, or refuses to."""
    import evaluate

    load = evaluate.load

    def loaded(path: str, *arguments: Any, **options: Any) -> Any:
        return CodeEval(allowed) if path == "code_eval" else load(path, *arguments, **options)

    with mock.patch.object(evaluate, "load", loaded):
        yield


class CodeEval:
    """evaluate's `code_eval`, its programs run in a sandbox.

    Args:
        allowed: whether anything is run.

    Attributes:
        imported: whether the task is loaded; what it tries as it is imported is not run.
    """

    def __init__(self, allowed: bool) -> None:
        self.allowed, self.imported = allowed, False

    def compute(
        self,
        references: Sequence[str],
        predictions: Sequence[Sequence[str]],
        k: Sequence[int] = (1, 10, 100),
        **_: Any,
    ) -> tuple[dict[str, float], dict[int, list[tuple[int, dict[str, Any]]]]]:
        """pass@k, the mean over problems, and each program's outcome.

        Args:
            references: a test for each problem. predictions: programs for each problem.

        Raises:
            StageFailed: code execution is off, or there is no sandbox on this machine.
        """
        from harness.scorers._sandbox import pass_at_k, refusal, run_programs

        if not self.imported and not self.allowed:
            return {f"pass@{number}": 0.0 for number in k}, {}
        if not self.allowed:
            raise StageFailed(
                "code execution is off",
                "the task runs the programs that a model writes",
                fix="set allow_code_execution: true; they then run inside bubblewrap",
            )
        reason = refusal()
        if reason is not None:
            raise StageFailed("no sandbox", reason)
        programs = [
            f"{program}\n{test}"
            for test, candidates in zip(references, predictions, strict=True)
            for program in candidates
        ]
        outcomes = iter(run_programs(programs))
        counts: list[tuple[int, int]] = []
        details: dict[int, list[tuple[int, dict[str, Any]]]] = {}
        for problem, candidates in enumerate(predictions):
            results = [next(outcomes) for _ in candidates]
            counts.append((len(results), sum(result.passed for result in results)))
            details[problem] = [
                (number, {"task_id": problem, "completion_id": number, "passed": result.passed,
                          "result": result.reason or "passed"})
                for number, result in enumerate(results)
            ]  # fmt: skip
        shares = {
            f"pass@{number}": sum(pass_at_k(n, c, number) for n, c in counts) / len(counts)
            for number in k
            if all(n >= number for n, _ in counts)
        }
        return shares, details
