"""`harness jobs`: the fine-tuning jobs that a suite started at a service, and an end to one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.commands.session import Opened
from harness.core.errors import HarnessError, SuiteError, unknown
from harness.core.text import line
from harness.stages.fine_tuning import FineTuning, calls_of, job_of
from harness.store.stage import Stage

_NONE = "no job was started for this suite"
_START = "`harness run` starts those of its services"


def list_jobs(opened: Opened) -> str:
    """A line for each job of the suite: its id, what its service says of it, its stage, where."""
    jobs = _jobs(opened)
    if not jobs:
        return f"{_NONE}; {_START}"
    return "\n".join(_line(job, stage) for job, stage in jobs.items())


def cancel(opened: Opened, job: str) -> str:
    """Ask the service to cancel a job, and say what it says of the job then.

    Raises:
        SuiteError: the suite started no such job.
        StageFailed: the service refuses.
    """
    jobs = _jobs(opened)
    if not jobs:
        raise SuiteError(_NONE, where=str(opened.plan.file), fix=_START)
    if job not in jobs:
        raise SuiteError(unknown("job", job, jobs, where=str(opened.plan.file)))
    fields = FineTuning.of(jobs[job])
    endpoint = fields.place.endpoint
    assert endpoint is not None, "a service has an endpoint"
    said = fields.method.cancel(calls_of(endpoint), job)
    return f"{line(job)}: {line(said)}. The next `harness run` says that it was cancelled."


def _jobs(opened: Opened) -> Mapping[str, Stage]:
    """Id of a job -> the stage that it was started for."""
    return dict(_started(opened))


def _started(opened: Opened) -> Iterator[tuple[str, Stage]]:
    for stage in opened.plan.stages():
        if stage.kind == "fine_tuning":
            job = job_of(stage, opened.store.root)
            if job is not None:
                yield job, stage


def _line(job: str, stage: Stage) -> str:
    fields = FineTuning.of(stage)
    endpoint = fields.place.endpoint
    assert endpoint is not None, "a service has an endpoint"
    try:
        state = fields.method.state_of(calls_of(endpoint), job)
    except HarnessError as error:
        state = f"unknown ({str(error).splitlines()[0]})"
    return f"{line(job)}  {line(state)}  {line(stage.label)}  {line(endpoint.base_url)}"
