"""The data stage: rows in one layout, counted and digested."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.data.load import load_rows
from harness.job import Job

ROWS = "rows.jsonl"


def run(job: Job) -> dict[str, Any]:
    """Read, filter and write the rows; metrics are counts, lengths in bytes, and the digest."""
    with job.ledger.phase("read"):
        rows, dropped = load_rows(job.config, job.locators["data"], job.locators["where"])
    with job.ledger.phase("write"):
        digest = hashlib.sha256()
        lengths = []
        with (job.folder / ROWS).open("w", encoding="utf-8") as handle:
            for row in rows:
                line = json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"
                digest.update(line.encode())
                lengths.append(_content_bytes(row))
                handle.write(line)
    groups = sorted({row["group"] for row in rows if row["group"]})
    return {
        "rows": len(rows),
        "layout": _layout(rows[0]),
        "dropped": dropped,
        "digest": digest.hexdigest(),
        "groups": groups,
        "longest_bytes": max(lengths),
        "mean_bytes": sum(lengths) / len(lengths),
    }


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a finished data stage."""
    with (folder / ROWS).open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def _layout(row: dict[str, Any]) -> str:
    return "messages" if "messages" in row else "text" if "text" in row else "prompt_completion"


def _content_bytes(row: dict[str, Any]) -> int:
    if "messages" in row:
        return sum(len(turn["content"].encode()) for turn in row["messages"])
    return sum(len(row.get(name, "").encode()) for name in ("prompt", "completion", "text"))
