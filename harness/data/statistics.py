"""Statistics of rows for the records: lengths and equal rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.data.cells import said
from harness.data.render import answer, layout_of, question
from harness.data.row import Row

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def lengths(values: Sequence[int]) -> dict[str, float]:
    """Mean, quantiles, maximum and sum. The p-quantile is the smallest value that a share p of the
    values does not exceed."""
    array = np.asarray(values)
    quantiles = {
        n: int(np.quantile(array, q, method="inverted_cdf")) for n, q in _QUANTILES.items()
    }
    return {
        "mean": float(array.mean()), **quantiles, "max": int(array.max()), "sum": int(array.sum()),
    }  # fmt: skip


def row_statistics(rows: Sequence[Row]) -> dict[str, Any]:
    """The lengths of prompts and answers (or of texts) in characters, and the number of rows that
    repeat another one."""
    if layout_of(list(rows[0])) == "text":
        characters = {"text": lengths([len(row["text"]) for row in rows])}
    else:
        characters = {
            "prompt": lengths([len(question(row)) for row in rows]),
            "answer": lengths([len(answer(row)) for row in rows]),
        }
    contents = {content_digest(row) for row in rows}
    return {"characters": characters, "equal_rows": len(rows) - len(contents)}


def content_digest(row: Row) -> str:
    """sha256 of a row's content, without its id, cluster, group and references."""
    said = {k: v for k, v in row.items() if k not in ("id", "cluster", "group", "references")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def content_bytes(row: Row) -> int:
    """The number of UTF-8 bytes of all texts of a row."""
    return sum(_bytes(row[name]) for name in _SAID if name in row)


_SAID = ("messages", "prompt", "completion", "chosen", "rejected", "responses", "text")


def _bytes(value: Any) -> int:
    """The bytes of a text, of a message, or of a list of these."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return len(said(value).encode())
    return sum(_bytes(part) for part in value)
