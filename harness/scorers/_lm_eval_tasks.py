"""lm-evaluation-harness's tasks: found by name, with local data in the place of the hub's, and
refused in one sentence where they cannot be loaded."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

from harness.core.errors import StageFailed
from harness.scorers._lm_eval_checks import unknown_task
from harness.scorers._lm_eval_code import code_evals, without_code
from harness.scorers._lm_eval_faults import explained, require_whole, scored
from harness.scorers._lm_eval_index import Index
from harness.scorers._lm_eval_scan import TAG, Files

DataFunction = Callable[[str], Mapping[str, Sequence[Mapping[str, Any]]]]
"""Name of a configuration (a subject of MMLU) -> split -> rows."""


def load_tasks(
    names: Sequence[str],
    index: Index,
    local_data: Mapping[str, DataFunction],
    *,
    allow_code: bool,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Tasks and groups as `lm_eval.tasks.TaskManager.load` returns them: `tasks`, `groups`.

    Args:
        names: of tasks, groups and tags, as lm-eval has them.
        index: finds their files.
        local_data: data set on the hub -> the function that gives its rows instead.
        allow_code: whether tasks that run generated code may be loaded.
        metadata: is added to that of each task and group.

    Raises:
        StageFailed: an unknown name (with the nearest), a task file that cannot be read, data that
            cannot be had, a task that runs code.
    """
    loaded: dict[str, Any] = {"tasks": {}, "groups": {}}
    for name in names:
        if index.find(name) is None:
            raise StageFailed("unknown task", unknown_task(name, index.names()))
        with (
            explained(name, index),
            _in_place_of_the_hub(local_data),
            without_code(allow_code),
            seeded(),
        ):
            parts = _manager(index.behind(name), metadata).load([name])
        loaded["tasks"] |= parts["tasks"]
        loaded["groups"] |= parts["groups"]
    for name, task in loaded["tasks"].items():
        _require_leave(name, task, allow_code=allow_code)
    return loaded


def _require_leave(name: str, task: Any, *, allow_code: bool) -> None:
    """Raise StageFailed for a task that would run a model's programs without leave, or elsewhere
    than in the sandbox."""
    unsafe = getattr(task, "UNSAFE_CODE", False)
    if unsafe and not allow_code:
        raise StageFailed(
            "code execution is off",
            f"the task {name} runs the programs that a model writes",
            fix="set allow_code_execution: true; they then run inside bubblewrap",
        )
    if unsafe and not any(code_evals(task)):
        raise StageFailed(
            "code outside the sandbox",
            f"the task {name} runs the programs that a model writes in a way of its own, and"
            " not by evaluate's code_eval, in whose place the sandbox stands",
            fix="leave the task out; run it with lm-eval itself on a machine that may be lost",
        )
    for code_eval in code_evals(task):
        code_eval.imported, code_eval.allowed = True, allow_code


def _manager(names: Mapping[str, Files], metadata: Mapping[str, Any] | None = None) -> Any:
    """lm-eval's manager of tasks, which knows these names. By itself it would read 14,000 files."""
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Entry, Kind, TaskIndex
    from lm_eval.tasks._yaml_loader import load_yaml

    manager = TaskManager(include_defaults=False, metadata=dict(metadata or {}))
    tags = {name: files for name, files in names.items() if files.kind == TAG}
    for name in names.keys() - tags:
        path = names[name].paths[0]
        TaskIndex.process_cfg(load_yaml(path, resolve_func=False), path, manager.task_index)
    for name, files in tags.items():  # whole, in the place of the part that its tasks registered
        manager.task_index[name] = Entry(name, Kind.TAG, None, tags=set(files.tasks))
    return manager


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Random numbers as `lm_eval.simple_evaluate` begins them: some tasks draw from them, such as
    IFEval where a row leaves an instruction open."""
    import numpy as np
    import torch

    before, before_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            random.seed(0)
            np.random.seed(1234)
            torch.manual_seed(1234)
            yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)


def build_requests(
    tasks: Mapping[str, Any],
    progress: Callable[[int, int, str], None],
    *,
    limit: int | float | None,
    chat_template: Callable[..., str] | None,
    **options: Any,
) -> None:
    """Build every task's requests, as `lm_eval.evaluate` does.

    Args:
        progress: told of the documents whose requests are built.
        chat_template: renders messages; None: requests are plain text.

    Raises:
        StageFailed: a prompt cannot be made.
    """
    from lm_eval.api import task as lm_eval_task
    from lm_eval.evaluator_utils import get_sample_size

    for name, task in tasks.items():

        def told(documents: Sequence[Any], name: str = name, **_: Any) -> Iterator[Any]:
            for number, document in enumerate(documents, 1):
                yield document
                progress(number, len(documents), f"requests of {name}")

        with scored(name, {name: task}), seeded(), mock.patch.object(lm_eval_task, "tqdm", told):
            require_whole(task)
            task.build_all_requests(
                limit=get_sample_size(task, limit),
                apply_chat_template=chat_template is not None,
                chat_template=chat_template,
                **options,
            )


def run_tasks(engine: Any, loaded: Mapping[str, Any], name: str, **options: Any) -> dict[str, Any]:
    """`lm_eval.evaluate`, with the standard errors that have a formula, and not those that it draws
    100,000 samples for (our intervals are of the rows).

    Raises:
        StageFailed: the task's filters, metrics or functions fail. A fault of the model is raised
            as it is.
    """
    import lm_eval
    from lm_eval import evaluator_utils
    from lm_eval.api.metrics import acc_all, acc_all_stderr, mean, mean_stderr

    formulas = {mean: mean_stderr, acc_all: acc_all_stderr}

    def error_of(metric: Any, **_: Any) -> Any:
        return formulas.get(metric)

    with (
        scored(name, loaded["tasks"]),
        seeded(),
        mock.patch.object(evaluator_utils, "stderr_for_metric", error_of),
    ):
        results: dict[str, Any] = lm_eval.evaluate(engine, loaded, log_samples=True, **options)
    return results


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
