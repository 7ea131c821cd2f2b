"""How much of a test set a training set already tells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.data.render import answer, question, turns_of

Row = Mapping[str, Any]
_WORD = re.compile(r"\w+")


def contamination(train: Sequence[Row], test: Sequence[Row], n: int) -> dict[str, Any]:
    """Test rows that also stand in the training rows.

    `exact`: prompt and answer equal, white space and case aside, to those of a training row or of
    any earlier turn of the assistant in it. `overlap`, of the others: at least half of the row's
    word n-grams occur in training rows (Brown et al., 2020, appendix C, use 13-grams). `short`:
    rows of fewer than n words that are no exact copy; they cannot be checked this way. No row is
    counted twice.
    """
    seen = {_plain(told) for row in train for told in (row, *_earlier(row))}
    grams = {gram for row in train for gram in _ngrams(_words(row), n)}
    exact, overlap, short = [], [], 0
    for row in test:
        if _plain(row) in seen:
            exact.append(row["id"])
            continue
        own = list(_ngrams(_words(row), n))
        if not own:
            short += 1
        elif sum(gram in grams for gram in own) * 2 >= len(own):
            overlap.append(row["id"])
    return {
        "test_rows": len(test), "n": n, "exact": len(exact), "exact_ids": exact[:20],
        "overlap": len(overlap), "overlap_ids": overlap[:20], "short": short,
    }  # fmt: skip


def _earlier(row: Row) -> Iterator[Row]:
    """What a conversation tells before its end: a row up to each earlier turn of the assistant."""
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
