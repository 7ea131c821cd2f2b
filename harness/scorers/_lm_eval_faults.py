"""Faults of lm-evaluation-harness's task files, told with the file, the field and the reason."""

from __future__ import annotations

import contextlib
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from harness.core.errors import HarnessError, StageFailed
from harness.scorers._lm_eval_checks import how_to_get, missing_data, told
from harness.scorers._lm_eval_data import FORMATS
from harness.scorers._lm_eval_fields import NOTHING_DRAWN
from harness.scorers._lm_eval_index import Index


@contextlib.contextmanager
def explained(name: str, index: Index) -> Iterator[None]:
    """Faults of a task's file or data, told with the file and the reason."""
    try:
        yield
    except StageFailed:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError):
            raise StageFailed(
                "package missing",
                f"the task {name} needs the package {error.name}, which is not installed",
                fix=f"pip install {error.name}",
            ) from error
        files = index.find(name)
        place = None if files is None else files.paths[0]
        path = _data_set(error)
        if path is not None:
            missing = missing_data([name], index, ()) or {path: ["default"]}
            raise StageFailed(
                "no data",
                f"the task {name}: {told(missing)} not here, and cannot be fetched"
                f" ({first_line(error)})",
                fix=how_to_get(missing),
            ) from error
        raise StageFailed(
            "task cannot be loaded",
            f"the task {name} ({place}) cannot be loaded: {first_line(error)}{field(error)}",
            fix="mend the task's file, or the function that gives its rows",
        ) from error


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


_FIELDS = {
    "doc_to_text": "doc_to_text", "doc_to_target": "doc_to_target",
    "doc_to_choice": "doc_to_choice", "process_docs": "process_docs",
    "training_docs": "training_split", "validation_docs": "validation_split",
    "test_docs": "test_split", "fewshot_docs": "fewshot_split",
    "download": "dataset_path, dataset_name, dataset_kwargs",
    "get_metric_aggregation": "metric_list", "_compute_task_aggregations": "metric_list",
    "build_filter_ensemble": "filter_list", "apply_filters": "filter_list",
    "process_results": "process_results, metric_list", "get_prompt": "use_prompt",
    "_build_filters": "filter_list",
    "handle_stop_sequences": "generation_kwargs", "normalize_gen_kwargs": "generation_kwargs",
    "sample": "num_fewshot, fewshot_split", "_build_task": "class",
}  # fmt: skip
"""lm-eval's functions -> the fields of a task's file that they read."""
_WORDS = (
    (r"process_docs\(|\.features", "process_docs"),
    (r"task_docs\[0\]", "test_split, validation_split, process_docs: there is no row"),
    (r"test_choice\[test_target\]", "doc_to_choice, doc_to_target"),
    (r"choice", "doc_to_choice"),
    (r"metrics\.keys|process_results", "process_results, metric_list"),
    (r"filter_config|filter_functions|function\[|filter_list", "filter_list"),
    (r"sampler", "fewshot_config"),
    (r"fewshot_cfg|fewshot_config", "fewshot_config, fewshot_split"),
    (r"num_fewshot", "num_fewshot"),
    (r"eval_docs|valid or test docs", "test_split, validation_split"),
    (r"\btask_name\b", "class"),
    (r"metric", "metric_list"),
    (r"\b(description|target_delimiter|generation_kwargs|repeats|output_type|use_prompt)\b", ""),
)
"""What stands in a line of lm-eval's that fails -> the fields that it reads; empty: the word."""


def field(error: BaseException) -> str:
    """The fields that were being read when this was raised, as the end of a sentence."""
    frames = traceback.extract_tb(error.__traceback__)
    read = (f"{os.sep}lm_eval{os.sep}", __file__)
    for frame in reversed([each for each in frames if any(file in each.filename for file in read)]):
        for pattern, fields in _WORDS:
            if match := re.search(pattern, frame.line or ""):
                return f"; look at {fields or match.group()}"
        if frame.name in _FIELDS:
            return f"; look at {_FIELDS[frame.name]}"
    return ""


def file_of(task: Any) -> str:
    """Where a task's settings stand."""
    return str((task.config.metadata or {}).get("config_source", ""))


@contextlib.contextmanager
def scored(name: str, tasks: Mapping[str, Any]) -> Iterator[None]:
    """Faults of a task's prompts, filters and metrics, told with the file and the field.

    Args:
        tasks: those behind the name.
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if any(f"harness{os.sep}inference" in frame.f_code.co_filename for frame in frames):
            raise
        being_read = [
            value
            for frame in frames
            for value in frame.f_locals.values()
            if any(value is task for task in tasks.values())
        ]
        files = {file_of(task): None for task in being_read[-1:] or tasks.values()}
        raise StageFailed(
            "task cannot be scored",
            f"the task {name} ({', '.join(files)}) cannot be scored: {first_line(error)}"
            f"{field(error)}",
            fix="mend the task's file: its prompts, its filters, its metrics or its functions",
        ) from error


def require_whole(task: Any) -> None:
    """Try what lm-eval would only read once a model has answered: filters, aggregations, generation
    settings.

    Raises:
        StageFailed: a field is wrong. Any other error is lm-eval's own.
    """
    from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

    _build_filters(task)
    wrong = [metric for metric, function in task.aggregation().items() if function is None]
    settings = getattr(task.config, "generation_kwargs", None)
    if wrong or not task.aggregation():
        raise _wrong(task, "metric_list", f"{wrong[0]} has no aggregation" if wrong else "is empty")
    if type(task.config.repeats) is not int or task.config.repeats < 1:
        raise _wrong(task, "repeats", f"is no number of times: {task.config.repeats!r}")
    if task.OUTPUT_TYPE == "generate_until" and settings is not None:
        kwargs = normalize_gen_kwargs(dict(settings), 256)
        stops = handle_stop_sequences(kwargs.get("until"), eos=None)
        if any(not isinstance(stop, str) for stop in stops):
            raise _wrong(task, "generation_kwargs", f"until is no text or list of texts: {stops}")
        if kwargs.get("do_sample") and kwargs.get("temperature") == 0:
            raise _wrong(task, "generation_kwargs", NOTHING_DRAWN)
        if type(kwargs["max_gen_toks"]) is not int:
            length = repr(kwargs["max_gen_toks"])
            raise _wrong(task, "generation_kwargs", f"max_gen_toks is no number: {length}")


def _build_filters(task: Any) -> None:
    for ensemble in task._filters:
        for build in ensemble.filters:
            build()


def _wrong(task: Any, name: str, fault: str) -> StageFailed:
    return StageFailed(
        "task cannot be scored",
        f"the task {task.config.task} ({file_of(task)}): {name}: {fault}",
        fix="mend the task's file",
    )


def _data_set(error: BaseException) -> str | None:
    """The data set that was being loaded when this was raised, if one was."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "load_dataset" and "datasets" in frame.f_code.co_filename:
            path = frame.f_locals.get("path")
            return path if isinstance(path, str) and path not in FORMATS else None
    return None
