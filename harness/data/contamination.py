"""Measures how much of a test set also occurs in the training set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harness.data.render import answer, question, turns_of
from harness.data.row import Row

_WORD = re.compile(r"\w+")


def contamination(train: Sequence[Row], test: Sequence[Row], n: int) -> dict[str, Any]:
    """Counts the test rows that also occur in the training rows. Each row is counted at most once.

    Returns:
        `exact`: rows with the prompt and answer of a training row, or of an earlier turn of the
        assistant in one; white space and case do not matter. `overlap`: other rows of which at
        least half of the word n-grams occur in training rows (Brown et al., 2020, appendix C, use
        13-grams). `short`: other rows of fewer than n words, which cannot be checked in this way.
        `exact_ids` and `overlap_ids`: the first 20 ids of each. `test_rows` and `n`.
    """
    seen = {_plain(part) for row in train for part in (row, *_earlier(row))}
    grams = {gram for row in train for gram in _ngrams(_words(row), n)}
    exact, overlap, short = [], [], 0
    for row in test:
        if _plain(row) in seen:
            exact.append(row["id"])
            continue
        row_ngrams = list(_ngrams(_words(row), n))
        if not row_ngrams:
            short += 1
        elif sum(gram in grams for gram in row_ngrams) * 2 >= len(row_ngrams):
            overlap.append(row["id"])
    return {
        "test_rows": len(test), "n": n, "exact": len(exact), "exact_ids": exact[:20],
        "overlap": len(overlap), "overlap_ids": overlap[:20], "short": short,
    }  # fmt: skip


def _earlier(row: Row) -> Iterator[Row]:
    """One row for each earlier turn of the assistant in a conversation, ending with that turn."""
    turns = turns_of(row) or []
    for place, turn in enumerate(turns[:-1]):
        if place and turn["role"] == "assistant":
            yield {"messages": turns[: place + 1]}


def _whole(row: Row) -> str:
    return f"{question(row)}\n{answer(row)}"


def _plain(row: Row) -> str:
    return " ".join(_whole(row).lower().split())


def _words(row: Row) -> list[str]:
    return _WORD.findall(_whole(row).lower())


def _ngrams(words: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))
