"""Figures that are not about the same thing are called incomparable, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.compare.rows import rows_of
from harness.compare.scores import Keys, Scores
from harness.compare.statistics import Sample

KEYS = Keys(("a", "b", "c"), ("a", "b", "c"), ("", "", ""))
NLL = Sample("perplexity", {"nll": np.array([3.0, 6.0, 9.0]), "tokens": np.array([2.0, 4.0, 5.0])})
SCORES = Scores(KEYS, NLL, False, "", "scorer 1", "rows", "")
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "another scorer version": ({"version": "scorer 2"}, "not the same scorer, or its version"),
    "other rows": ({"rows": "others"}, "not the same examples"),
    "other ids": (
        {"keys": Keys(("a", "b", "d"), ("a", "b", "d"), ("", "", ""))}, "not the same examples",
    ),
    "another judge": ({"judge": "judge"}, "not by the same reward model"),
    "another tokenizer": (
        {"sample": Sample("perplexity", {**NLL.columns, "tokens": np.array([2.0, 4.0, 6.0])})},
        "not the same tokens: another tokenizer (bits_per_byte compares these)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_about_the_same_is_incomparable(change: str) -> None:
    fields, note = CHANGES[change]
    column = ("perplexity", "general")
    made = {
        "base": {0: {column: SCORES}},
        "same": {0: {column: replace(SCORES)}},
        "other": {0: {column: replace(SCORES, **fields)}},
    }
    found = {row.group: row for row in rows_of(made, "base")}
    assert found["same"].difference is not None
    assert (found["other"].verdict, found["other"].difference) == ("incomparable", None)
    assert found["other"].note == note
