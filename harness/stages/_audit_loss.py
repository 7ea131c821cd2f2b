"""Proof that the loss was on the right tokens, from the first batches that entered the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from harness.data.render import chat_ids, common_prefix, encode
from harness.objectives.base import Evidence

IGNORED = -100
"""The label of a token that is not in the loss (torch.nn.CrossEntropyLoss's ignore_index)."""
_HEAD = 32

Check = dict[str, str]
Row = Mapping[str, Any]


class RowIndex:
    """Finds the training row that a sequence of tokens came from, by the sequence's beginning."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Row]] = defaultdict(list)

    def add(self, row: Row, ids: Sequence[int]) -> None:
        """Remember a row by its tokens."""
        self._rows[hash(tuple(ids[:_HEAD]))].append(row)

    def find(self, tokenizer: Any, ids: Sequence[int]) -> Row | None:
        """The row whose tokens begin with `ids` (rows may be cut); None if there is none."""
        end = [tokenizer.eos_token_id]
        # A trainer may have added the end to a row whose own tokens lack it.
        bare = ids[:-1] if list(ids[-1:]) == end else ids
        for head in {tuple(ids[:_HEAD]), tuple(bare[:_HEAD])}:
            for row in self._rows.get(hash(head), []):
                whole = encode(tokenizer, row)[0]
                if whole[-1:] != end:
                    whole = [*whole, *end]
                if list(ids) == whole[: len(ids)]:
                    return row
        return None


def audit_loss(
    tokenizer: Any, index: RowIndex, evidence: Evidence | None, answers_only: bool | None
) -> list[Check]:
    """Pads are left out of the loss, and so is the prompt where only answers are trained on.

    Args:
        answers_only: whether the objective claims so; None where rows cannot be told apart.
    """
    names = ("no padding in the loss", "the loss is on the tokens it should be on")
    sequences = [] if evidence is None else list(_sequences(evidence))
    if not sequences:
        return [_skipped(name, "no labels entered the model") for name in names]
    padded = sum(label != IGNORED for _, _, pads in sequences for label in pads)
    detail = f"{padded or 'no'} padded tokens in the first batches' loss"
    checks = [_check(names[0], padded == 0, detail)]
    if answers_only is None:
        return [*checks, _skipped(names[1], "rows are packed, and cannot be told apart")]
    faults = [
        fault
        for ids, labels, _ in sequences
        if (fault := _fault(tokenizer, index, ids, labels, answers_only))
    ]
    what = "the answers alone" if answers_only else "every token"
    detail = f"{len(faults)} of {len(sequences)} rows: {faults[0]}" if faults else what
    return [*checks, _check(names[1], not faults, detail)]


def _sequences(evidence: Evidence) -> Any:
    """Each row's tokens, their labels, and the labels of its padding."""
    for batch in evidence.batches:
        if "labels" not in batch or "input_ids" not in batch:
            continue
        masks = batch.get("attention_mask") or [[1] * len(ids) for ids in batch["input_ids"]]
        for ids, mask, labels in zip(batch["input_ids"], masks, batch["labels"], strict=True):
            seen = [(token, label) for token, m, label in zip(ids, mask, labels, strict=True) if m]
            pads = [label for m, label in zip(mask, labels, strict=True) if not m]
            yield [token for token, _ in seen], [label for _, label in seen], pads


def _fault(
    tokenizer: Any,
    index: RowIndex,
    ids: Sequence[int],
    labels: Sequence[int],
    answers_only: bool,
) -> str | None:
    row = index.find(tokenizer, ids)
    if row is None:
        return f"a sequence of {len(ids)} tokens that no training row renders to"
    allowed = _answer_tokens(tokenizer, row) if answers_only else set(range(len(ids)))
    trained = {i for i, label in enumerate(labels) if label != IGNORED}
    if any(labels[i] != ids[i] for i in trained):
        return f"row {row.get('id')}: a label that is not its own token"
    if trained - allowed:
        # Positions, not words: an audit stands in reports that may hold no sentence of the data.
        wrong = sorted(trained - allowed)
        where = f"the first at {wrong[0]}"
        return f"row {row.get('id')}: {len(wrong)} tokens of the prompt in the loss, {where}"
    if not trained and allowed & set(range(len(ids))):
        return f"row {row.get('id')}: no token in the loss"
    return None


def _answer_tokens(tokenizer: Any, row: Row) -> set[int]:
    """Positions of the completion, or of every assistant turn with what the template ends it by."""
    if "messages" not in row:
        whole, start = encode(tokenizer, row)
        return set(range(start, len(whole) + 1))
    messages = row["messages"]
    whole = chat_ids(tokenizer, messages)
    allowed: set[int] = set()
    for turn, message in enumerate(messages):
        if message["role"] == "assistant":
            asked = chat_ids(tokenizer, messages[:turn], add_generation_prompt=True)
            told = chat_ids(tokenizer, messages[: turn + 1])
            allowed |= set(range(common_prefix(asked, whole), common_prefix(told, whole)))
    return allowed


def _check(name: str, good: bool, detail: str) -> Check:
    return {"check": name, "status": "passed" if good else "failed", "detail": detail}


def _skipped(name: str, why: str) -> Check:
    return {"check": name, "status": "skipped", "detail": why}
