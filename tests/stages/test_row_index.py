"""The audit of the loss finds rows by their tokens, however alike they begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.data.render import encoded
from harness.stages import _audit_loss
from harness.stages._audit_loss import RowIndex

INSTRUCTION = "Below is an instruction that describes a task. Write a response to it. "


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def indexed(tokenizer: Any, rows: list[dict[str, str]]) -> RowIndex:
    index = RowIndex()
    for row in rows:
        index.add(row, encoded(tokenizer, row).ids)
    return index


def test_rows_that_begin_with_the_same_instruction_are_found_without_looking_through_all(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"{INSTRUCTION}{i} {'so ' * (60 + i % 9)}"} for i in range(300)]
    index, looked = indexed(tokenizer, rows), []

    def counted(tokenizer: Any, row: Any) -> Any:
        looked.append(row)
        return encoded(tokenizer, row)

    monkeypatch.setattr(_audit_loss, "encoded", counted)
    for row in rows[::7]:
        ids = encoded(tokenizer, row).ids
        assert index.find(tokenizer, ids) is row
        assert index.find(tokenizer, ids[:200]) is row
    assert len(looked) <= 2 * len(rows[::7])


def test_a_row_cut_anywhere_is_found_and_another_one_is_not(tokenizer: Any) -> None:
    rows = [{"text": letter * 90} for letter in "abc"]
    index = indexed(tokenizer, rows)
    for row in rows:
        ids = encoded(tokenizer, row).ids
        assert all(index.find(tokenizer, ids[:n]) is row for n in range(2, len(ids) + 1))
    ids = encoded(tokenizer, rows[0]).ids
    assert index.find(tokenizer, [*ids[:50], ids[50] + 1]) is None
    assert index.find(tokenizer, [*ids, *ids]) is None


def test_row_of_any_length_is_found_with_the_end_that_a_trainer_adds(tokenizer: Any) -> None:
    """It is known by its tokens without that end."""
    for length in range(1, 135):
        row, index = {"text": "a" * length}, RowIndex()
        *bare, end = encoded(tokenizer, row).ids
        assert end == tokenizer.eos_token_id
        index.add(row, bare)
        assert index.find(tokenizer, [*bare, end]) is row, length
        assert index.find(tokenizer, [*bare, bare[0], end]) is None
