"""Faults of lm-evaluation-harness's task files, told with the file, the field and the reason."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.core.errors import StageFailed
from harness.scorers._lm_eval_checks import FORMATS, how_to_get, missing_data, told
from harness.scorers._lm_eval_index import Index


@contextlib.contextmanager
def explained(name: str, manager: Any, include_path: Path | None) -> Iterator[None]:
    """Faults of a task's file or data, told with the file and the reason."""
    index = Index(include_path)
    try:
        yield
    except StageFailed:
        raise
    except Exception as error:
        entry = manager.task_index.get(name)
        place = getattr(entry, "yaml_path", None)
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
    "process_results": "process_results, metric_list",
}  # fmt: skip
"""lm-eval's functions -> the fields of a task's file that they read."""
_NAMED = {"metric": "metric_list", "generation_kwargs": "generation_kwargs"}
"""Words in a line of lm-eval's that fails -> the field that it reads."""


def field(error: BaseException) -> str:
    """The fields that were being read when this was raised, as the end of a sentence."""
    frames = traceback.extract_tb(error.__traceback__)
    fields = [_FIELDS[frame.name] for frame in frames if frame.name in _FIELDS]
    line = frames[-1].line or ""
    fields += [field for word, field in _NAMED.items() if word in line and not fields]
    return f"; look at {fields[-1]}" if fields else ""


def _data_set(error: BaseException) -> str | None:
    """The data set that was being loaded when this was raised, if one was."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "load_dataset" and "datasets" in frame.f_code.co_filename:
            path = frame.f_locals.get("path")
            return None if path is None or path in FORMATS else str(path)
    return None
