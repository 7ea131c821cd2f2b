"""Hands lm-eval's tasks their rows, from the files beside this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def rows(file: str, subject: str | None = None, **_: Any) -> Any:
    """A `datasets.DatasetDict` of a file's rows by their `split`.

    Args:
        file: its name without suffix.
        subject: only the rows of this subject.
        _: a task's `metadata`, which lm-eval hands over too.
    """
    from datasets import Dataset, DatasetDict

    text = (Path(__file__).parent / f"{file}.jsonl").read_text(encoding="utf-8")
    splits: dict[str, list[dict[str, Any]]] = {}
    for row in map(json.loads, text.splitlines()):
        if subject is None or row["subject"] == subject:
            splits.setdefault(row["split"], []).append(row)
    return DatasetDict({split: Dataset.from_list(listed) for split, listed in splits.items()})
