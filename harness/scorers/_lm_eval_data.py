"""Where a benchmark task's rows lie, as far as its file tells."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import shortened
from harness.core.files import files_below
from harness.scorers._lm_eval_scan import Settings

FORMATS = ("json", "csv", "parquet", "text", "arrow", "pandas", "xml", "webdataset",
           "imagefolder", "audiofolder", "videofolder", "sql")  # fmt: skip
"""Data sets that are files beside the task."""


def data_faults(settings: Settings) -> Iterator[str]:
    """What is wrong with where a task's rows lie, each as `field: fault`."""
    if settings.get("custom_dataset") is not None:
        return
    path, options = settings.get("dataset_path"), settings.get("dataset_kwargs")
    if path is None:
        yield "dataset_path: is missing: a data set of the hub, or json with dataset_kwargs"
        return
    if settings.get("test_split") is None and settings.get("validation_split") is None:
        yield "test_split: is missing, and so is validation_split: no rows are asked"
    files = options.get("data_files") if isinstance(options, dict) else None
    if path in FORMATS and files is not None and not (options or {}).get("data_dir"):
        yield from _files(settings, files)


def local_files(settings: Settings, folder: Path) -> Iterator[Path]:
    """The files of rows that a task's file, or a group's with its members, names: wherever they
    lie where its data set is read from them; else in its folder, for a function of its own."""
    data, options = settings.get("dataset_path"), settings.get("dataset_kwargs")
    for name in _texts([data, options]):
        yield from (path for path in _existing(name) if path.is_relative_to(folder))
    if settings.get("custom_dataset") is None:
        fields = options if isinstance(options, Mapping) else {}
        read = [fields.get("data_files"), fields.get("data_dir")]
        for name in _texts(read if data in FORMATS else [data, *read]):
            yield from _existing(name)
    for field, value in settings.items():
        for member in value if isinstance(value, list) else [value]:
            if isinstance(member, Mapping) and field != "dataset_kwargs":
                yield from local_files(member, folder)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _existing(name: str) -> Iterator[Path]:
    """The files that a path or a pattern of paths names; those below a folder."""
    for path in (Path(each).resolve() for each in glob.glob(name, recursive=True)):
        yield from files_below(path) if path.is_dir() else [path] if path.is_file() else []


def missing_files(settings: Settings) -> Iterator[str]:
    """The files of a task's rows that are not here, or empty, each as `field: fault`. Who has the
    requests that were made of them needs them no more."""
    options = settings.get("dataset_kwargs")
    if settings.get("dataset_path") not in FORMATS or not isinstance(options, dict):
        return
    files = options.get("data_files")
    if files is None or options.get("data_dir"):
        return
    for split, paths in (files if isinstance(files, dict) else {"": files}).items():
        for name in paths if isinstance(paths, list) else [paths]:
            if isinstance(name, str) and (fault := _file(name)):
                place = f"data_files.{split}" if split else "data_files"
                yield f"dataset_kwargs.{place}: {fault}"


def _files(settings: Settings, files: Any) -> Iterator[str]:
    splits = files if isinstance(files, dict) else {"train": files}
    for paths in splits.values():
        for name in paths if isinstance(paths, list) else [paths]:
            if not isinstance(name, str):
                yield f"dataset_kwargs.data_files: is no path: {shown(name)}"
    for field in ("test_split", "validation_split", "training_split", "fewshot_split"):
        split = settings.get(field)
        if isinstance(split, str) and re.match(r"\w+", split)[0] not in splits:  # type: ignore[index]
            yield f"{field}: the data has no {shown(split)} ({listed(map(str, splits))})"


def _file(name: str) -> str:
    """What is wrong with a file of rows that a task names; those on the web are not looked at."""
    if "://" in name or "::" in name:
        return ""
    matches = [Path(each) for each in glob.glob(name, recursive=True)]
    if not matches:
        return f"there is no file {shown(name)}"
    if all(path.is_file() and not path.stat().st_size for path in matches):
        return f"{shown(name)} is empty"
    return ""


def listed(names: Iterable[str]) -> str:
    """Names, for a message."""
    return ", ".join(sorted(names))


def shown(value: Any) -> str:
    """A value of a file, for a message."""
    return shortened(repr(value))
