"""Figures on lengths and doubles, for the records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.data.cells import said
from harness.data.render import answer, layout_of, question

Row = Mapping[str, Any]
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def lengths(values: Sequence[int]) -> dict[str, float]:
    """Mean, quantiles (the smallest value that so many do not exceed), maximum and sum."""
    found = np.asarray(values)
    quantiles = {
        n: int(np.quantile(found, q, method="inverted_cdf")) for n, q in _QUANTILES.items()
    }
    return {
        "mean": float(found.mean()), **quantiles, "max": int(found.max()), "sum": int(found.sum()),
    }  # fmt: skip


def row_statistics(rows: Sequence[Row]) -> dict[str, Any]:
    """Characters of prompts and answers (of texts, where rows are that), and equal rows."""
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
    """Digest of what a row says, whatever its id."""
    said = {k: v for k, v in row.items() if k not in ("id", "cluster", "group", "references")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def content_bytes(row: Row) -> int:
    """UTF-8 bytes of all that a row says."""
    return sum(_bytes(row[name]) for name in _SAID if name in row)


_SAID = ("messages", "prompt", "completion", "chosen", "rejected", "responses", "text")


def _bytes(value: Any) -> int:
    """Of a text, a message, or a list of either."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return len(said(value).encode())
    return sum(_bytes(part) for part in value)
