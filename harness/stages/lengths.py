"""The lengths stage: how long rows are with a model's tokenizer, known before anything trains.

It needs the tokenizer and no weights. What is measured: a row as it is trained on, its prompt as a
policy is asked it, or its prompt as an evaluation asks it, without worked examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import ModelError, StageFailed
from harness.data.lengths import RowLength, write_lengths
from harness.data.render import asked_ids, prompt_ids, prompt_row, turns_of
from harness.data.statistics import lengths as length_figures
from harness.data.usable import trained, unrenderable
from harness.models.folder import held
from harness.stages._models import model_ref, own_tokenizer
from harness.stages.base import Job
from harness.stages.data import read_rows


def run(job: Job) -> dict[str, Any]:
    """Measure every row; metrics are figures of the lengths, and the largest token number."""
    with job.ledger.phase("load"):
        tokenizer = _tokenizer(job)
        rows = read_rows(job.input("data"))
    measure = job.config["measure"]
    if not tokenizer.chat_template and _chats(rows, measure):
        write_lengths(job.folder, [])  # which is refused by name, with the model's place
        return {"rows": len(rows), "no_template": True}
    found, highest = [], (-1, "")
    with job.ledger.phase("measure"):
        for number, row in enumerate(rows):
            length, largest = _measured(tokenizer, row, measure)
            found.append(length)
            highest = max(highest, (largest, row["id"]), key=lambda told: told[0])
            job.progress(number + 1, len(rows), "rows measured")
    with job.ledger.phase("write"):
        write_lengths(job.folder, found)
    tokens = [length.tokens for length in found if not length.refused]
    return {
        "rows": len(rows),
        "tokens": length_figures(tokens) if tokens else {},
        "refused": dict(Counter(length.refused for length in found if length.refused)),
        "highest_token": {"number": highest[0], "row": highest[1]},
    }


def _tokenizer(job: Job) -> Any:
    config = {"dtype": "float32", "attn_implementation": "eager", **job.config["model"]}
    ref = model_ref(config, "cpu", job.locators)
    try:
        if "checkpoint" in job.config:
            checkpoint = job.locators["checkpoint"]
            with held(checkpoint, {"content": job.config["checkpoint"]}):
                return own_tokenizer(ref, Path(checkpoint))
        return ref.tokenizer()
    except StageFailed:
        raise  # it is not what was planned
    except Exception as error:
        raise ModelError(
            f"its tokenizer cannot be loaded: {type(error).__name__}: {error}",
            where=job.locators["where"],
            fix="save it again: AutoTokenizer.from_pretrained(X).save_pretrained(Y)",
        ) from error


def _chats(rows: list[dict[str, Any]], measure: Mapping[str, Any]) -> bool:
    asked = measure.get("generate", {"apply_chat_template": True})
    return bool(asked["apply_chat_template"]) and any(turns_of(row) is not None for row in rows)


def _measured(
    tokenizer: Any, row: dict[str, Any], measure: Mapping[str, Any]
) -> tuple[RowLength, int]:
    """A row's length, and its largest token number."""
    if "text" in row or not measure.keys() & {"generate", "prompts"}:
        found = trained(tokenizer, row)
        if isinstance(found, str):
            return RowLength(row["id"], 0, found), -1
        return RowLength(row["id"], found[1]), max(found[0].ids, default=-1)
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
