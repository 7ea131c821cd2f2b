"""The file of a generate stage: a line for each answer, which scorers read as a prediction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.data.render import question
from harness.inference.reading import Answer
from harness.scorers.base import Prediction

PREDICTIONS = "predictions.jsonl"


def write_predictions(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    answers: Sequence[Answer],
    samples: Sequence[list[Answer]],
) -> None:
    """Write the answer to each row, and those that were drawn, into the stage's folder."""
    with (folder / PREDICTIONS).open("w", encoding="utf-8") as out:
        for row, answer, drawn in zip(rows, answers, samples, strict=True):
            out.write(json.dumps(_line(row, answer, drawn), ensure_ascii=False) + "\n")


def read_predictions(folder: Path) -> list[Prediction]:
    """The predictions of a finished generate stage."""
    with (folder / PREDICTIONS).open(encoding="utf-8") as handle:
        lines = [json.loads(line) for line in handle]
    return [
        Prediction(
            line["id"], line["cluster"], line["group"], line["prompt"], line["text"],
            tuple(line["references"]), tuple(line.get("samples", ())), line.get("finish", ""),
            line.get("raw", line["text"]),
        )
        for line in lines
    ]  # fmt: skip


def _line(row: dict[str, Any], answer: Answer, drawn: list[Answer]) -> dict[str, Any]:
    sampled = {"samples": [sample.text for sample in drawn]} if drawn else {}
    return {
        **sampled,
        "id": row["id"],
        "cluster": row["cluster"],
        "group": row["group"],
        "prompt": question(row),
        "text": answer.text,
        **({"raw": answer.raw} if answer.raw != answer.text else {}),
        **({"generated": answer.generated} if answer.generated else {}),
        "references": row["references"],
        "finish": answer.finish,
        "tokens": answer.tokens,
    }
