"""Fine-tuning jobs of a service, in the dialect that OpenAI's API introduced."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field, field_validator

from harness.core.component import NotHashed
from harness.core.errors import StageFailed
from harness.methods._service import Call, ServiceMethod, Tuned, Turns, Work
from harness.models.endpoint import without_secrets

_A_TURN = 16
"""Tokens that a chat template adds at most to a turn, and to a whole chat."""
_JOBS, _FILES = "fine_tuning/jobs", "files"
_LISTED = 100
"""Jobs on a page of their list."""


class FineTuningJob(ServiceMethod):
    """Training by a service's fine-tuning jobs: a file of chats is uploaded, a job is started and
    asked for its state until it ends, and the tuned model is then asked at the same endpoint
    (`POST files`, `POST fine_tuning/jobs`, `GET fine_tuning/jobs/ID`). Several providers and
    servers speak this dialect. It trains entries of `models:` with an `endpoint`.

    A job is started once for one configuration: a run that was killed goes on waiting for it, and
    a run that ends does not cancel it. A job that failed or was cancelled is started again only
    when the file that the message names is removed.
    """

    VERSION = 1

    n_epochs: int | None = Field(None, gt=0)
    """Passes over the rows; default: the service's choice."""
    batch_size: int | None = Field(None, gt=0)
    """Rows of a step; default: the service's choice."""
    learning_rate_multiplier: float | None = Field(None, gt=0)
    """Scales the service's learning rate; default: the service's choice."""
    args: dict[str, Any] = {}
    """Other fields of the job, such as `{suffix: mine}`. They are written to disk."""
    poll_seconds: Annotated[float, NotHashed] = Field(20.0, gt=0)
    """Seconds between two questions for the job's state."""

    @field_validator("args")
    @classmethod
    def _open(cls, value: dict[str, Any]) -> dict[str, Any]:
        return without_secrets(value)

    def tune(self, work: Work) -> Tuned:
        if "file" not in work.state:
            work.keep(file=_upload(work, work.rows, "train.jsonl"))
        if work.validation and "validation_file" not in work.state:
            work.keep(validation_file=_upload(work, work.validation, "validation.jsonl"))
        if "job" not in work.state:
            work.keep(job=self._started(work))
        return self._ended(work, str(work.state["job"]))

    def most_tokens(self, rows: Sequence[Turns]) -> int | None:
        if self.n_epochs is None:
            return None
        turns = [turn for row in rows for turn in row]
        written = sum(len(json.dumps(turn, ensure_ascii=False).encode()) for turn in turns)
        return self.n_epochs * (written + _A_TURN * (len(turns) + len(rows)))

    def state_of(self, call: Call, job: str) -> str:
        return str(call(f"{_JOBS}/{job}", None, _state)["status"])

    def cancel(self, call: Call, job: str) -> str:
        return str(call(f"{_JOBS}/{job}/cancel", {}, lambda reply: reply["status"]))

    def _started(self, work: Work) -> str:
        """The id of the job. The request is sent a single time: if its reply is lost, or this
        process is killed meanwhile, the job is looked for by the file that it trains on."""
        if work.state.get("asked") and (known := _job_on(work)):
            return known
        work.keep(asked=True)
        try:
            return str(work.call(_JOBS, self._body(work), lambda reply: reply["id"], once=True))
        except StageFailed:
            if known := _job_on(work):
                return known
            raise

    def _body(self, work: Work) -> dict[str, Any]:
        names = ("n_epochs", "batch_size", "learning_rate_multiplier")
        chosen = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {
            "model": work.endpoint.model,
            "training_file": work.state["file"],
            **({"validation_file": work.state["validation_file"]} if work.validation else {}),
            "seed": work.seed,
            **({"hyperparameters": chosen} if chosen else {}),
            **self.args,
        }

    def _ended(self, work: Work, job: str) -> Tuned:
        while True:
            told = _told(work, job)
            status = told["status"].lower()
            if status in _SUCCEEDED:
                begun, ended = (_whole(told, name) for name in ("created_at", "finished_at"))
                seconds = float(ended - begun) if begun and ended else None
                about = {"job": job, "base": work.endpoint.model}
                tokens = _whole(told, "trained_tokens")
                return Tuned(str(told["fine_tuned_model"]), tokens, seconds, about)
            if status in _ENDED:
                raise StageFailed(
                    "fine-tuning", f"the job {job} has {_ENDED[status]}: {_reason(told)}"
                )
            work.progress(f"job {job}: {status}")
            work.sleep(self.poll_seconds)


_SUCCEEDED = frozenset({"succeeded", "success", "completed"})
_ENDED = {
    "failed": "failed",
    "error": "failed",
    "cancelled": "been cancelled",
    "canceled": "been cancelled",
    "stopped": "been stopped",
    "expired": "expired",
    "timeout_exceeded": "taken too long",
    "deleted": "been deleted",
}
"""The states that a job ends in with a model, and without one, in the words of the services that
speak this, some of them in capitals."""


def _whole(told: Mapping[str, Any], name: str) -> int | None:
    """A number that a service may tell; None where it does not, or tells something else."""
    value = told.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _reason(told: Mapping[str, Any]) -> str:
    error = told.get("error")
    said = error.get("message") if isinstance(error, Mapping) else error
    return str(said) if said else "the service gives no reason"


def _told(work: Work, job: str) -> Mapping[str, Any]:
    """What the service says of a job.

    Raises:
        StageFailed: it does not say, or does not know the job.
    """
    try:
        told: Mapping[str, Any] = work.call(f"{_JOBS}/{job}", None, _state)
        return told
    except StageFailed as failed:
        if "HTTP 404" not in failed.message:
            raise
        raise StageFailed(
            "fine-tuning", f"the service does not know the job {job} any more: {failed.message}"
        ) from None


def _state(reply: Any) -> Mapping[str, Any]:
    """A job's state, checked for what is read of it.

    Raises:
        TypeError, KeyError: it is none.
    """
    if not isinstance(reply["status"], str):
        raise TypeError("a status that is no text")
    if reply["status"].lower() in _SUCCEEDED and not isinstance(reply["fine_tuned_model"], str):
        raise TypeError("a tuned model without a name")
    return dict(reply)


def _upload(work: Work, rows: Sequence[Turns], name: str) -> str:
    lines = [json.dumps({"messages": turns}, ensure_ascii=False) for turns in rows]
    content = ("\n".join(lines) + "\n").encode("utf-8", "replace")
    return str(work.call(
        _FILES, {"purpose": "fine-tune"}, lambda reply: reply["id"],
        files=[("file", (name, content, "application/jsonl"))],
        options={"headers": {"Content-Type": "multipart/form-data"}},
    ))  # fmt: skip


def _job_on(work: Work) -> str:
    """The id of the job that trains on the uploaded file; "" if there is none."""
    last, seen = "", {""}
    while True:
        after = f"&after={quote(last, safe='')}" if last else ""
        page = work.call(f"{_JOBS}?limit={_LISTED}{after}", None, _page)
        for job in page["data"]:
            if job.get("training_file") == work.state["file"]:
                return str(job["id"])
        last = str(page["data"][-1]["id"]) if page["data"] else ""
        if not page.get("has_more") or last in seen:
            return ""
        seen.add(last)


def _page(reply: Any) -> Mapping[str, Any]:
    """A page of the list of jobs, checked for what is read of it.

    Raises:
        TypeError, KeyError, AttributeError: it is none.
    """
    for job in reply["data"]:
        str(job["id"]), job.get("training_file")
    return dict(reply)
