"""Local copies of benchmark data, in the place of the hub's data sets.

`lm_eval: {datasets: {cais/mmlu: benchmarks/local.py:mmlu}}` hands lm-eval's own task the rows from
here: its prompts, filters and metrics stay as they are. Each function takes the name of the data
set's configuration (a subject of MMLU) and returns splits with the columns that the hub's has.

The files lie in the folder that HARNESS_REAL_DATA names, under `benchmarks/`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Splits = dict[str, list[dict[str, Any]]]


def mmlu(folder: Path, subject: str) -> Splits:
    """Hendrycks et al., 2021 (arXiv:2009.03300): question, four choices, index of the right one."""
    return {
        split: [
            {
                "question": row["question"],
                "subject": subject,
                "choices": [row[f"choice{number}"] for number in range(4)],
                "answer": int(row["answer"]),
            }
            for row in _csv(folder / "mmlu" / split / f"{subject}_{split}.csv")
        ]
        for split in ("dev", "test")
    }


def gsm8k(folder: Path, name: str) -> Splits:
    """Cobbe et al., 2021 (arXiv:2110.14168): questions with worked answers."""
    return {split: _jsonl(folder / "gsm8k" / f"{split}.jsonl") for split in ("train", "test")}


def arc(folder: Path, name: str) -> Splits:
    """Clark et al., 2018 (arXiv:1803.05457), the challenge set: 3 to 5 choices a question. Its
    training questions are not among the files; shots are drawn from the validation ones.

    Raises:
        ValueError: for the easy set, which is not among the files.
    """
    if name != "ARC-Challenge":
        raise ValueError(f"only ARC-Challenge is here, not {name}")
    place = folder / "arc_challenge"
    files = {
        "train": f"{name}-Dev.jsonl",
        "validation": f"{name}-Dev.jsonl",
        "test": f"{name}-Test.jsonl",
    }
    return {split: [_arc_row(row) for row in _jsonl(place / file)] for split, file in files.items()}


def _arc_row(row: Mapping[str, Any]) -> dict[str, Any]:
    choices = row["question"]["choices"]
    return {
        "id": row["id"],
        "question": row["question"]["stem"],
        "choices": {name: [choice[name] for choice in choices] for name in ("text", "label")},
        "answerKey": row["answerKey"],
    }


def truthfulqa(folder: Path, name: str) -> Splits:
    """Lin et al., 2022 (arXiv:2109.07958): one (mc1) or several (mc2) true answers a question.

    Raises:
        ValueError: for another configuration than `multiple_choice`.
    """
    if name != "multiple_choice":
        raise ValueError(f"only multiple_choice is here, not {name}")
    rows = json.loads((folder / "truthfulqa" / "mc_task.json").read_text(encoding="utf-8"))
    return {
        "validation": [
            {
                "question": row["question"],
                "mc1_targets": _targets(row["mc1_targets"]),
                "mc2_targets": _targets(row["mc2_targets"]),
            }
            for row in rows
        ]
    }


def _targets(labels: Mapping[str, int]) -> dict[str, Any]:
    """Choices and labels; of mc1 lm-eval takes the first choice for the right one."""
    ordered = sorted(labels.items(), key=lambda item: -item[1])
    return {"choices": [text for text, _ in ordered], "labels": [label for _, label in ordered]}


def bbh(folder: Path, task: str) -> Splits:
    """Suzgun et al., 2022 (arXiv:2210.09261): input and target of one task."""
    text = (folder / "bbh" / f"{task}.json").read_text(encoding="utf-8")
    return {"test": json.loads(text)["examples"]}


def humaneval(folder: Path, name: str) -> Splits:
    """Chen et al., 2021 (arXiv:2107.03374): a function's head, its tests, its name."""
    return {"test": _jsonl(folder / "humaneval" / "HumanEval.jsonl")}


def _jsonl(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def _csv(path: Path) -> Iterable[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        yield from csv.DictReader(handle)
