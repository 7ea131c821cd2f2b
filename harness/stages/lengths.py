"""The lengths stage: how long rows are with a model's tokenizer, known before anything trains.

It needs the tokenizer and no weights. What is measured: a row as it is trained on, its prompt as a
policy is asked it, or its prompt as an evaluation asks it, without worked examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Self

from harness.data.lengths import RowLength, write_lengths
from harness.data.render import asked_ids, prompt_ids, prompt_row, turns_of
from harness.data.statistics import lengths as length_figures
from harness.data.usable import trained, unrenderable
from harness.models.files import ModelPlace
from harness.stages._tokenizers import load_tokenizer
from harness.stages.base import AddedLater, Job, NotHashed, StageKind
from harness.stages.data import read_rows
from harness.store.stage import Record, Resources


class Lengths(StageKind):
    """How long the rows of a split are with a model's tokenizer."""

    VERSION = 4
    reads = {"data": "data"}

    model: dict[str, Any]
    """Identity of the model, as far as its tokenizer depends on it."""
    measure: dict[str, Any]
    """What is measured: `{}` a row as it is trained on, `{prompts: true}` its prompt as a policy is
    asked it, `{generate: ...}` its prompt as an evaluation with such options asks it."""
    checkpoint: Annotated[str | None, AddedLater] = None
    """Digest of a checkpoint that came with a tokenizer of its own; None: the model's is used."""
    place: Annotated[ModelPlace, NotHashed]
    """Where the model and that checkpoint lie."""
    where: Annotated[str, NotHashed]
    """The model's place in the suite, for messages."""

    def resources(self, asked: Resources) -> Resources:
        return asked.without_gpu()

    @classmethod
    def headline(cls, record: Record) -> str:
        tokens = record.metrics.get("tokens")
        return f"{tokens['mean']:.0f} tokens a row, the longest {tokens['max']}" if tokens else ""

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Measure every row; metrics are figures of the lengths, and the largest token number."""
        with job.ledger.phase("load"):
            content = None if self.checkpoint is None else {"content": self.checkpoint}
            tokenizer = load_tokenizer(self.model, content, self.place, self.where)
            rows = read_rows(job.input("data"))
        measure = self.measure
        if not tokenizer.chat_template and _chats(rows, measure):
            write_lengths(job.folder, [])  # which is refused by name, with the model's place
            return {"rows": len(rows), "no_template": True}
        lengths, highest = [], (-1, "")
        with job.ledger.phase("measure"):
            for number, row in enumerate(rows):
                length, largest = _measured(tokenizer, row, measure)
                lengths.append(length)
                highest = max(highest, (largest, row["id"]), key=lambda pair: pair[0])
                job.progress(number + 1, len(rows), "rows measured")
        with job.ledger.phase("write"):
            write_lengths(job.folder, lengths)
        tokens = [length.tokens for length in lengths if not length.refused]
        return {
            "rows": len(rows),
            "tokens": length_figures(tokens) if tokens else {},
            "refused": dict(Counter(length.refused for length in lengths if length.refused)),
            "highest_token": {"number": highest[0], "row": highest[1]},
        }


def _chats(rows: list[dict[str, Any]], measure: Mapping[str, Any]) -> bool:
    asked = measure.get("generate", {"apply_chat_template": True})
    return bool(asked["apply_chat_template"]) and any(turns_of(row) is not None for row in rows)


def _measured(
    tokenizer: Any, row: dict[str, Any], measure: Mapping[str, Any]
) -> tuple[RowLength, int]:
    """A row's length, and its largest token number."""
    if "text" in row or not measure.keys() & {"generate", "prompts"}:
        tokens = trained(tokenizer, row)
        if isinstance(tokens, str):
            return RowLength(row["id"], 0, tokens), -1
        return RowLength(row["id"], tokens[1]), max(tokens[0].ids, default=-1)
    asked = measure.get("generate", {"apply_chat_template": True})
    reason = unrenderable(tokenizer, prompt_row(row)) if asked["apply_chat_template"] else None
    if reason is not None:
        return RowLength(row["id"], 0, reason), -1
    ids = (
        prompt_ids(tokenizer, row, [], measure["generate"])
        if "generate" in measure
        else asked_ids(tokenizer, row)
    )
    return RowLength(row["id"], len(ids)), max(ids, default=-1)
