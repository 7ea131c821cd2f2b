"""Proof that the loss was on the right tokens, from the first batches that entered the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from harness.data.chat import render
from harness.data.encode import bare_ids
from harness.data.render import asked_ids, encoded, template_kwargs_of, turns_of
from harness.data.row import Row
from harness.objectives.base import Evidence
from harness.stages._audit_answers import answers_fault

IGNORED = -100
"""The label of a token that is not in the loss (torch.nn.CrossEntropyLoss's ignore_index)."""
_ROWS = 8
REJOINED = (
    "are written by the chat template otherwise than it asks for their answers: they are trained on"
    " as they are asked"
)
_TAIL = 12

Check = dict[str, str]


class RowIndex:
    """Finds the training row that a sequence of tokens came from, by the sequence's beginning.

    A row is known by all its tokens and by its first 2, 8, 32, 128 ... of them, so that a sequence
    is compared with few rows though all of them begin with the same instructions.

    Args:
        cut: what is left of a row that is trained on, which may be its end.
    """

    def __init__(self, cut: slice = slice(None)) -> None:
        self.cut = cut
        self._rows: dict[int, list[Row]] = defaultdict(list)

    def add(self, row: Row, ids: Sequence[int]) -> None:
        """Remember a row by its tokens."""
        known = {
            hash(tuple(part[:size]))
            for part in (ids, ids[self.cut])
            for size in (*_heads(len(part)), len(part))
        }
        for key in known:
            self._rows[key].append(row)

    def find(self, tokenizer: Any, ids: Sequence[int]) -> Row | None:
        """The row whose tokens begin with `ids`, or are cut to them; None if there is none."""
        end = [tokenizer.eos_token_id]
        # A trainer may have added the end to a row whose own tokens lack it.
        bare = ids[:-1] if list(ids[-1:]) == end else ids
        sizes = [size for known in (ids, bare) for size in (len(known), *_heads(len(known))[-1:])]
        for size in dict.fromkeys(sizes):
            for row in self._rows.get(hash(tuple(ids[:size])), []):
                rendered = encoded(tokenizer, row).ids
                whole = rendered if rendered[-1:] == end else [*rendered, *end]
                if list(ids) in (whole[: len(ids)], rendered[self.cut]):
                    return row
        return None


def _heads(length: int) -> list[int]:
    """Lengths of the beginnings that rows of so many tokens are known by."""
    return [2 * 4**power for power in range(12) if 2 * 4**power <= length]


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
    trained = {i for i, label in enumerate(labels) if label != IGNORED}
    if any(labels[i] != ids[i] for i in trained):
        return f"row {row.get('id')}: a label that is not its own token"
    fault = None
    if answers_only:
        rendered = encoded(tokenizer, row)
        # Where its beginning is cut off, that part never enters the model: it is as it should be.
        start = range(len(rendered.ids))[index.cut].start
        trained = {i for i in range(start) if rendered.trained[i]} | {i + start for i in trained}
        whole = [*rendered.ids[:start], *ids]
        cut = len(whole) < len(rendered.ids)
        fault = answers_fault(tokenizer, row, whole, trained, cut=cut)
    elif len(trained) < len(ids):
        fault = f"{len(ids) - len(trained)} tokens out of the loss"
    return None if fault is None else f"row {row.get('id')}: {fault}"


def audit_prompts(tokenizer: Any, rows: Sequence[Row]) -> Check:
    """What a model is asked at generation are the tokens that stand before the answer in training.

    The chat template is asked by transformers itself, on the first rows.
    """
    name = "generation asks what stood before the answers"
    asking = [row for row in rows[:_ROWS] if "text" not in row]
    if not asking:
        return _skipped(name, "the rows are texts, and ask nothing")
    faults = [str(row.get("id")) for row in asking if not _asked_alike(tokenizer, row)]
    detail = f"{len(asking)} rows" + (f"; not row {faults[0]}" if faults else "")
    if rejoined := [str(row.get("id")) for row in asking if encoded(tokenizer, row).rejoined]:
        detail += f"; {len(rejoined)} of them (first: {rejoined[0]}) {REJOINED}"
    return _check(name, not faults, detail)


def _asked_alike(tokenizer: Any, row: Row) -> bool:
    trained = encoded(tokenizer, row)
    asked = asked_ids(tokenizer, row)
    if trained.ids[: len(asked)] != asked or trained.prompt != len(asked):
        return False
    turns = turns_of(row)
    prompt = row["messages"][:-1] if "messages" in row else row["prompt"]
    if turns is None:
        said = str(tokenizer.decode(bare_ids(tokenizer, prompt))).strip()
        return str(tokenizer.decode(asked)).strip().endswith(said[-_TAIL:].strip())
    text = render(
        tokenizer, prompt, add_generation_prompt=True, template_kwargs=template_kwargs_of(row)
    )
    return asked == list(tokenizer(text=text, add_special_tokens=False)["input_ids"])


def _check(name: str, good: bool, detail: str) -> Check:
    return {"check": name, "status": "passed" if good else "failed", "detail": detail}


def _skipped(name: str, why: str) -> Check:
    return {"check": name, "status": "skipped", "detail": why}
