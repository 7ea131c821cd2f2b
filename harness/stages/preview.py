"""The preview stage: rows as an objective's own trainer prepares and collates them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, cast

from harness.core.errors import StageFailed
from harness.data.render import answer, encoded, question, template_digest, trained_length
from harness.data.row import RowDict
from harness.methods.base import Method
from harness.models.files import ModelPlace
from harness.objectives.base import Objective
from harness.stages._fitting import fitting, usable
from harness.stages._models import model_ref
from harness.stages._prepared import rows_of
from harness.stages._room import within
from harness.stages._stand_in import ask_trainer
from harness.stages.base import Job, Member, NotHashed, StageKind
from harness.stages.data import read_rows
from harness.store.stage import Resources

PREVIEW = "preview.json"
"""Sentences of the data stay in this file; the record has counts alone."""
_EXCERPT = 300


class Preview(StageKind):
    """Rows as an objective's own trainer prepares and collates them."""

    VERSION = 3
    reads = {"train": "data", "validation": "data", "*": "data"}

    rows: int
    """How many are shown."""
    model: dict[str, Any]
    method: Annotated[Method, Member("method")]
    objective: Annotated[Objective, Member("objective")]
    seed: int
    data_seed: int
    place: Annotated[ModelPlace, NotHashed]
    """Where the model lies."""

    def resources(self, asked: Resources) -> Resources:
        return asked.without_gpu()

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Write the first rows as trained on; metrics are the counts over all rows."""
        ref = model_ref(self.model, "cpu", self.place)
        tokenizer = ref.tokenizer()
        objective, room = within(self.objective, self.method, ref.config())
        with job.ledger.phase("data"):
            rows = rows_of(job, "train", objective)
            refusal = objective.refuse_layout(job.input_record("train").metrics["layout"])
            if refusal:
                raise StageFailed("data", refusal)
            kept, counts, _ = fitting(rows, tokenizer, objective, room)
        with job.ledger.phase("prepare"):
            shown = kept[: self.rows]
            batches = _batches(job, objective, tokenizer, shown)
        named = _named(shown, batches)
        sequences = [_described(tokenizer, batch) for batch in batches]
        over = None
        if counts["over_length"]:
            over = _over_length(usable(rows, tokenizer)[0], tokenizer, objective)
        rejoined = [row["id"] for row in shown if encoded(tokenizer, row).rejoined]
        preview = {"sequences": sequences, "ids": named, "over_length": over, "rejoined": rejoined}
        text = json.dumps(preview)
        (job.folder / PREVIEW).write_text(text, encoding="utf-8")
        return {"rows": counts, "chat_template": template_digest(tokenizer)}


def _named(rows: Sequence[RowDict], batches: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """What each sequence is called; None where documents are packed into one."""
    if all("row" in batch for batch in batches):
        return [f"{rows[batch['row']]['id']}, {batch['part']}" for batch in batches]
    alone = len(batches) == len(rows) and not any("position_ids" in batch for batch in batches)
    return [row["id"] for row in rows] if alone else None


def _batches(
    job: Job[Preview], objective: Objective, tokenizer: Any, rows: list[RowDict]
) -> list[dict[str, Any]]:
    if objective.batches is None:
        raise StageFailed("preview", f"{objective.name} has no way to show the rows it trains on")
    more_rows = {role: read_rows(job.input(role)) for role in objective.more_data()}
    batches = ask_trainer(objective.batches, objective, job, tokenizer, rows, more_rows)
    return cast(list[dict[str, Any]], batches)


def _described(tokenizer: Any, batch: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """A sequence's tokens, which of them are in the loss, and its text in runs of one kind.

    The first token of a sequence is never predicted, whatever its label says.
    """
    ids = list(batch["input_ids"])
    loss = [label != -100 and i > 0 for i, label in enumerate(batch["labels"])]
    starts = [i for i, p in enumerate(batch.get("position_ids", [])) if p == 0 and i > 0]
    special = set(tokenizer.all_special_ids)
    kinds = [(loss[i], token in special) for i, token in enumerate(ids)]
    cuts = [
        i
        for i in range(1, len(ids))
        if kinds[i] != kinds[i - 1] or kinds[i][1] or kinds[i - 1][1] or i in starts
    ]
    runs, before = [], ""
    for begin, end in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        whole = _decode(tokenizer, ids[:end])
        text = (
            whole[len(before) :] if whole.startswith(before) else _decode(tokenizer, ids[begin:end])
        )
        before = whole
        runs.append(
            {"text": text, "loss": kinds[begin][0], "special": kinds[begin][1],
             "starts_document": begin in starts}
        )  # fmt: skip
    return {"ids": ids, "loss": loss, "runs": runs, "documents": len(starts) + 1}


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _over_length(rows: list[RowDict], tokenizer: Any, objective: Objective) -> dict[str, Any]:
    """The first row over max_length."""
    limit = int(getattr(objective, "max_length", 0))
    row = next(row for row in rows if trained_length(tokenizer, row) > limit)
    said = f"{question(row)}\n{answer(row)}" if answer(row) else question(row)
    return {
        "id": row["id"], "tokens": trained_length(tokenizer, row), "excerpt": said[:_EXCERPT]
    }  # fmt: skip
