"""The fine_tuning stage: a service trains one of its models on rows of ours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from harness.core.errors import StageFailed
from harness.core.files import write_atomic
from harness.core.text import rewrite
from harness.data.render import answer, question, turns_of
from harness.inference.endpoint import ChatEndpoint, Refused
from harness.inference.wire import masked_answer
from harness.methods._service import ServiceMethod, Turns, Work
from harness.models.endpoint import ServedModel
from harness.models.files import ModelPlace
from harness.stages._cost import BYTES_A_TOKEN
from harness.stages.base import Job, Known, Member, NotHashed, StageKind
from harness.stages.data import read_rows
from harness.store.stage import Record, Resources, Stage

TUNED, JOBS = "tuned.json", "jobs"
"""What the stage leaves: the tuned model's name. The folder beside the store's replies that keeps
which job was started for which stage."""


class FineTuning(StageKind):
    """A model that a service trained; its name is what is left."""

    VERSION = 1
    reads = {"train": "*", "validation": "data"}
    purpose = "training"
    long = True

    model: dict[str, Any]
    """Identity of the model that the service starts from."""
    method: Annotated[ServiceMethod, Member("method")]
    """Who trains it."""
    objective: str
    """What is optimised, as far as the service lets one choose."""
    seed: int
    """Of the service's own random numbers."""
    place: Annotated[ModelPlace, NotHashed]
    """Where the service is."""

    def resources(self, asked: Resources) -> Resources:
        return asked.without_gpu()

    def expected(self, known: Known, inputs: Mapping[str, Stage]) -> dict[str, float]:
        """Tokens of one pass over the rows."""
        rows = known.rows
        return {"tokens": rows["rows"] * rows["mean_bytes"] / BYTES_A_TOKEN} if rows else {}

    @classmethod
    def headline(cls, record: Record) -> str:
        return f"{record.metrics['tuned_model']}, on {record.metrics['rows']} rows"

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Have the service train; metrics are the tuned model's name and the job's id.

        Raises:
            StageFailed: the service refuses the rows or the job, or the job failed.
        """
        endpoint = self.place.endpoint
        assert endpoint is not None
        rows = _chats(job.input("train"))
        state = _State(job.replies / JOBS / f"{job.folder.name}.json")
        work = Work(
            endpoint=endpoint,
            rows=rows,
            validation=_chats(job.input("validation")) if job.has("validation") else [],
            seed=self.seed,
            call=_calls(endpoint),
            state=state.fields,
            keep=state.keep,
            progress=lambda told: job.progress(0, 1, told),
            sleep=time.sleep,
        )
        with job.ledger.phase("train"):
            try:
                tuned = self.method.tune(work)
            except StageFailed as failed:
                if "job" not in state.fields or failed.fix:
                    raise
                fix = f"remove {state.path} to start another job, which the service charges for"
                raise StageFailed(failed.reason, failed.message, fix=fix) from None
        named = {"model": tuned.model, **tuned.about}
        write_atomic(job.folder / TUNED, json.dumps(named, indent=1) + "\n")
        amounts = {"tokens": tuned.tokens, "train_seconds": tuned.seconds}
        prices = endpoint.prices
        if prices is not None and prices.training is not None and tuned.tokens is not None:
            amounts["money"] = tuned.tokens * prices.training / 1e6
        job.cost.update({name: value for name, value in amounts.items() if value is not None})
        return {"rows": len(rows), "tuned_model": tuned.model, **tuned.about}


def tuned_model(endpoint: ServedModel, folder: Path) -> ServedModel:
    """The endpoint, with the tuned model in the place of the one that it was tuned from."""
    named = json.loads((folder / TUNED).read_text(encoding="utf-8"))
    return endpoint.model_copy(update={"model": named["model"]})


class _State:
    """What is known of a job, on disk: it outlives a kill, and the removal of the stage."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, Any] = (
            json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        )

    def keep(self, **fields: Any) -> None:
        self.fields.update(fields)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps(self.fields, indent=1) + "\n")


def _calls(endpoint: ServedModel) -> Callable[..., Any]:
    """Sends requests to a service; what it refuses fails the stage."""
    client = ChatEndpoint.of(endpoint)

    def call(
        path: str, body: Any, parse: Callable[[Any], Any], once: bool = False, **options: Any
    ) -> Any:
        try:
            asked = replace(client, retries=0) if once else client
            told = asked.call(path, body, parse, **options)
            return rewrite(told, lambda text: masked_answer(text, client.key))
        except Refused as refusal:
            raise StageFailed(
                "fine-tuning", f"{endpoint.base_url} refuses {path}: {refusal}",
                fix="check the method's options and the rows",
            ) from None  # fmt: skip

    return call


def _chats(folder: Path) -> list[Turns]:
    """The rows as chats; a plain prompt is a user's turn."""
    return [
        turns_of(row)
        or [
            {"role": "user", "content": question(row)},
            {"role": "assistant", "content": answer(row)},
        ]
        for row in read_rows(folder)
    ]
