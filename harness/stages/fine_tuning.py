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
from harness.core.text import number_of, rewrite
from harness.data.render import answer, question, turns_of
from harness.inference.endpoint import ChatEndpoint, Refused
from harness.inference.replies import Replies
from harness.inference.spending import Amount
from harness.inference.wire import masked_answer
from harness.methods._service import ServiceMethod, Turns, Work
from harness.models.endpoint import ServedModel
from harness.models.files import ModelPlace
from harness.stages._cost import BYTES_A_TOKEN
from harness.stages._state import State
from harness.stages.base import REPLIES, Job, Known, Member, NotHashed, StageKind
from harness.stages.data import read_rows
from harness.store.stage import Record, Resources, Stage

TUNED = "tuned.json"
"""What the stage leaves: the tuned model's name."""


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
        return f"{record.metrics['tuned_model']}, on {number_of(record.metrics['rows'], 'row')}"

    def run(self, job: Job[Self]) -> dict[str, Any]:
        """Have the service train; metrics are the tuned model's name and the job's id.

        Raises:
            StageFailed: the service refuses the rows or the job, or the job failed.
        """
        endpoint = self.place.endpoint
        assert endpoint is not None
        rows = _chats(job.input("train"))
        state = State.of(job)
        work = Work(
            endpoint=endpoint,
            rows=rows,
            validation=_chats(job.input("validation")) if job.has("validation") else [],
            seed=self.seed,
            call=calls_of(endpoint),
            state=state.fields,
            keep=state.keep,
            progress=lambda told: job.progress(0, 1, told),
            sleep=time.sleep,
        )
        budget = _Budget(job, endpoint, state)
        budget.set_aside(self.method.most_tokens(rows))
        with job.ledger.phase("train"):
            try:
                tuned = self.method.tune(work)
            except StageFailed as failed:
                if "job" not in state.fields:
                    budget.release()
                if "job" not in state.fields or failed.fix:
                    raise
                fix = f"remove {state.path} to start another job, which the service charges for"
                raise StageFailed(failed.reason, failed.message, fix=fix) from None
        budget.charge(tuned.tokens)
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


def job_of(stage: Stage, root: Path) -> str | None:
    """The id of the job that was started for a stage of this kind; None if none was.

    Args:
        root: the store's folder.
    """
    job = State(root / REPLIES, stage.path(root).name).fields.get("job")
    return None if job is None else str(job)


class _Budget:
    """What a job may cost, beside the replies of its model: a budget is for both."""

    def __init__(self, job: Job, endpoint: ServedModel, state: State) -> None:
        self._endpoint, self._state, self._most = endpoint, state, 0
        self._name = f"job of {job.folder.name}"
        self._replies = Replies(job.replies, endpoint, ChatEndpoint.of(endpoint))

    def set_aside(self, most: int | None) -> None:
        """Set aside what the job can cost, unless it is from an earlier attempt.

        Raises:
            StageFailed: it could exceed the budget, or nobody knows what it can cost.
        """
        budget, prices = self._endpoint.budget, self._endpoint.prices
        self._most = most or 0
        if budget is None or self._state.fields.get("set_aside"):
            return
        if most is None and budget.counts_tokens:
            raise StageFailed(
                "budget", "a budget in tokens or money needs the number of passes over the rows",
                fix="set n_epochs, or give the budget in calls",
            )  # fmt: skip
        if budget.money is not None and (prices is None or prices.training is None):
            raise StageFailed(
                "budget", "a budget in money needs the price of training",
                fix="add `training:` to prices, for a million tokens",
            )  # fmt: skip
        self._replies.set_aside(self._name, Amount(1, training_tokens=self._most))
        self._state.keep(set_aside=True)

    def charge(self, tokens: int | None) -> None:
        """Note what the job did cost, once; the most, if the service does not tell."""
        if not self._state.fields.get("charged"):
            told = self._most if tokens is None else tokens
            self._replies.charge(self._name, Amount(1, training_tokens=told))
            self._state.keep(charged=True)

    def release(self) -> None:
        """Give back what was set aside for a job that was not started."""
        if self._state.fields.get("set_aside"):
            self._replies.charge(self._name, None)
            self._state.keep(set_aside=False)


def calls_of(endpoint: ServedModel) -> Callable[..., Any]:
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
