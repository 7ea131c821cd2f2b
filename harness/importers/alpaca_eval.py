"""Annotations of AlpacaEval: annotations.json (or .json.gz), a judge's preference for each
instruction between 1 (the reference's answer) and 2 (the model's)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from harness.comparison.measured import Run
from harness.core.files import digest_json
from harness.core.text import label
from harness.importers.base import a_name, a_number, mapping, sequence
from harness.importers.collector import Collector
from harness.importers.files import Unreadable, digest, json_file

NAME = "alpaca-eval"
TITLE = "AlpacaEval: annotations.json"


def recognises(path: Path, start: bytes) -> bool:
    """Whether rows have two generators and an instruction."""
    return not path.is_dir() and b'"generator_1"' in start and b'"instruction"' in start


def read(path: Path) -> list[Run]:
    """One run, whose metric `win_rate` is the mean preference minus 1.

    Raises:
        Unreadable: it is damaged, or not of AlpacaEval.
    """
    where = str(path)
    rows = sequence(json_file(path), "it", where)
    if not rows:
        raise Unreadable("has no annotations", where=where)
    collector = Collector("alpaca_eval", where)
    judges, references, models = set(), set(), set()
    times: Counter[str] = Counter()
    for number, row in enumerate(rows):
        row = mapping(row, f"row {number}", where)
        preference = row.get("preference")
        win = None if preference is None else a_number(preference, "preference", where) - 1
        if win is not None and not 0 <= win <= 1:
            raise Unreadable(f"row {number}: preference {preference} is not in 1 to 2", where=where)
        judges.add(str(row.get("annotator")))
        references.add(str(row.get("generator_1")))
        models.add(str(row.get("generator_2")))
        instruction = a_name(_digest(row), "the instruction", where)
        times[instruction] += 1
        again = f"-{times[instruction]}" if times[instruction] > 1 else ""
        collector.add(f"{instruction}{again}", {"win_rate": win})
    if len(models) != 1:
        raise Unreadable(f"has {len(models)} models, not one", where=where)
    conditions = {"judge": ", ".join(sorted(judges)), "reference": ", ".join(sorted(references))}
    return [
        Run(
            label(models.pop()),
            tuple(collector.measured(conditions, {"win_rate": (0.0, 1.0)})),
            source={"tool": "AlpacaEval", "file": path.name, "sha256": digest(path)},
        )
    ]


def _digest(row: dict[str, Any]) -> str:
    """The instruction's name: files have no ids, and not all have the same instructions."""
    return digest_json(str(row.get("instruction")))[:16]
