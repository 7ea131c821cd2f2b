"""What a training reads before any model is there: rows that fit, and its start's logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.data.render import prompt_row
from harness.methods.base import Method
from harness.models.files import ModelRef
from harness.objectives.base import Objective
from harness.stages import _audit, _companions
from harness.stages._audit_loss import RowIndex
from harness.stages._fitting import fitting, usable
from harness.stages._models import model_ref
from harness.stages._room import within
from harness.stages.base import Job
from harness.stages.data import read_rows


@dataclass(frozen=True)
class Prepared:
    """What a training reads, before any model is there.

    Attributes:
        objective: with its lengths within the model's context.
        more: role -> rows of the other data that the objective reads.
        lengths: what became of the rows. index: which tokens are which row's.
        probe: token ids to see a change with.
        promise: the starting checkpoint's logits on them, where the stage has one.
    """

    method: Method
    objective: Objective
    ref: ModelRef
    tokenizer: Any
    rows: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    more: dict[str, list[dict[str, Any]]]
    lengths: dict[str, Any]
    index: RowIndex
    probe: Any
    promise: Any


def prepared(job: Job) -> Prepared:
    """Rows that fit, and what the starting checkpoint computes."""
    config = job.config
    method, objective = config.method, config.objective
    ref = model_ref(config.model, config.device, config.place)
    with job.ledger.phase("data"):
        tokenizer = ref.tokenizer()
        objective, room = within(objective, method, ref.config())
        suite_rows = rows_of(job, "train", objective)
        rows, lengths, index = fitting(suite_rows, tokenizer, objective, room)
        validation: list[dict[str, Any]] = []
        if job.has("validation"):
            suite_rows = rows_of(job, "validation", objective)
            validation, lengths["validation"], _ = fitting(suite_rows, tokenizer, objective, room)
        more = {}
        for role in objective.more_data():
            suite_rows = read_rows(job.input(role))
            more[role], unusable = usable(suite_rows, tokenizer)
            if unusable:
                lengths[role] = {"given": len(suite_rows), "unusable": unusable}
    with job.ledger.phase("audit"):
        probe = _audit.probe(tokenizer, rows, config.device)
        origin = _companions.starting_point(job)
        promise = _companions.promised(method, ref, origin, probe, objective.head)
    return Prepared(
        method, objective, ref, tokenizer, rows, validation, more, lengths, index, probe, promise
    )


def row_notes(counts: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know of rows that were not trained on as the suite has them."""
    if counts["over_length"] and "context" in counts:
        yield (
            f"{counts['over_length']} of {counts['given']} rows are over the {counts['context']}"
            f" tokens that the model has room for, where max_length is {counts['max_length']}"
            f" (overlong: {counts['overlong']})"
        )
    for role, other in counts.items():
        unusable = other.get("unusable") if isinstance(other, Mapping) else None
        if unusable and role != "validation":
            lost = f"{sum(unusable.values())} of {other['given']} rows of {role} are left out"
            yield f"{lost}: {'; '.join(unusable)}"
    if "without_loss" in counts:
        yield (
            f"{counts['without_loss']} of {counts['given']} rows have no token in the loss, and"
            " are left out"
        )


def rows_of(job: Job, role: str, objective: Objective) -> list[dict[str, Any]]:
    """A split's rows, of which an objective may read the prompts alone."""
    rows = read_rows(job.input(role))
    return [prompt_row(row) for row in rows] if objective.reads_prompts else rows
