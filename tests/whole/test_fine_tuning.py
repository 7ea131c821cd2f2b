"""Fine-tuning jobs of a service, beside served models and trainings here."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.commands.plan import describe_plan
from harness.comparison.compare import compare
from harness.comparison.result import ALL
from harness.core.errors import ModelError, SuiteError
from harness.methods.fine_tuning_job import _job_on
from harness.models.endpoint import ServedModel
from harness.stages.fine_tuning import calls_of
from harness.store.stage import Record
from tests.conftest import SFT, Workspace
from tests.served import Answer, Jobs, Serve, Server, as_json, says


def knows(body: dict[str, Any], _: int) -> Answer:
    letter = body["messages"][-1]["content"][0]
    return says(letter * 3, 20, completion_tokens=3)


def knows_nothing(body: dict[str, Any], _: int) -> Answer:
    return says("?", 20, completion_tokens=1)


@pytest.fixture
def jobs() -> Jobs:
    return Jobs(knows_nothing, knows)


@pytest.fixture
def service(workspace: Workspace, serve: Serve, jobs: Jobs) -> Server:
    """A local LoRA, a served model and a job on it."""
    server = serve(jobs)
    endpoint = {
        "base_url": server.url, "model": "big-1", "retries": 0,
        "prices": {"prompt": 1, "completion": 2, "training": 25},
    }  # fmt: skip
    workspace.write(
        models={**workspace.tree["models"], "big": {"endpoint": endpoint}},
        matrix={
            "method": [
                {"lora": {"r": 4}}, {"fine_tuning_job": {"n_epochs": 2, "poll_seconds": 0.01}},
            ],
            "objective": [{"sft": SFT}],
        },
        scorers=["exact_match"],
        baseline="zero-shot@big",
    )  # fmt: skip
    return server


def tuning(outcome: Any) -> Record:
    (record,) = [r for r in outcome.records.values() if r.kind == "fine_tuning"]
    return record


def forget_stage(workspace: Workspace, record: Record) -> None:
    (workspace.store / "fine_tuning" / record.key[:24] / "record.json").unlink()


def test_a_served_model_a_job_and_a_local_lora_stand_in_one_table(
    service: Server, jobs: Jobs, workspace: Workspace
) -> None:
    jobs.states = ["validating_files", "queued", "running", "succeeded"]
    outcome = workspace.run()
    assert not outcome.failed, [(r.label, r.error) for r in outcome.failed]
    (job,) = jobs.jobs.values()
    assert job["model"] == "big-1"
    assert job["hyperparameters"] == {"n_epochs": 2}
    file = jobs.files[job["training_file"]]
    assert "fine-tune" in file
    assert file.count('{"messages": [{"') == 24
    opened = workspace.open()
    comparison = compare(opened.plan, outcome.records, opened.store)
    variants = {variant.group: variant for variant in comparison.variants}
    assert set(variants) == {
        "zero-shot@tiny", "zero-shot@big", "lora-sft-tiny", "fine_tuning_job-sft-big",
    }  # fmt: skip
    tuned = variants["fine_tuning_job-sft-big"]
    assert tuned.status == "ok"
    assert tuned.served
    assert tuned.trained
    assert tuned.cost["train_seconds"] == 90
    assert tuned.cost["tokens"] == 480
    assert tuned.cost["parameters"] is None
    assert tuned.cost["service_money"] == pytest.approx((480 * 25 + 12 * 20 + 12 * 3 * 2) / 1e6)
    assert variants["lora-sft-tiny"].cost["service_money"] is None
    row = next(r for r in comparison.rows if r.group == tuned.group and r.slice == ALL)
    assert row.estimate.value > 0.2
    told = describe_plan(workspace.open(), why=False)
    assert "method fine_tuning_job: training rows are sent to the service" in told


def test_a_job_is_started_once_for_one_key(
    service: Server, jobs: Jobs, workspace: Workspace
) -> None:
    record = tuning(workspace.run())
    forget_stage(workspace, record)
    again = tuning(workspace.run())
    assert again.metrics["job"] == record.metrics["job"]
    assert (len(jobs.jobs), len(jobs.files)) == (1, 1)
    workspace.tree["matrix"]["objective"] = [{"sft": {**SFT, "learning_rate": 0.5}}]
    workspace.run()  # options that do not reach the service start nothing
    assert len(jobs.jobs) == 1
    workspace.tree["matrix"]["method"][1]["fine_tuning_job"]["n_epochs"] = 3
    workspace.run()
    assert len(jobs.jobs) == 2


def test_a_start_whose_answer_is_lost_is_found_again(
    service: Server, jobs: Jobs, workspace: Workspace
) -> None:
    jobs.lost = 1
    outcome = workspace.run()
    assert not outcome.failed
    assert len(jobs.jobs) == 1


@pytest.mark.parametrize("others", [150, 200])
def test_a_start_that_was_lost_is_found_among_many_other_jobs(
    service: Server, jobs: Jobs, workspace: Workspace, others: int
) -> None:
    """A list has pages; what is not on the first one would be started and paid twice."""
    record = tuning(workspace.run())
    jobs.jobs |= {f"later-{n}": {"training_file": f"file of {n}"} for n in range(others)}
    (file,) = (workspace.store / "replies" / "jobs").glob("*.json")
    state = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in state.items() if name != "job"}))
    forget_stage(workspace, record)
    assert tuning(workspace.run()).metrics["job"] == record.metrics["job"]
    assert len(jobs.jobs) == 1 + others


def test_a_list_of_jobs_that_goes_round_has_an_end() -> None:
    """A service may answer a page again; here two take turns."""
    asked: list[str] = []

    def call(path: str, *_: Any) -> Any:
        asked.append(path)
        return {"data": [{"id": f"job-{len(asked) % 2}"}], "has_more": True}

    work: Any = SimpleNamespace(call=call, state={"file": "file-0"})
    assert _job_on(work) == ""
    assert len(asked) == 3


@pytest.mark.parametrize("word", ["SUCCEEDED", "Success", "completed"])
def test_a_job_has_ended_in_the_words_of_any_service(
    service: Server, jobs: Jobs, workspace: Workspace, word: str
) -> None:
    jobs.states = ["QUEUED", "Running", word]
    assert not workspace.run().failed


def test_a_job_that_the_service_does_not_know_any_more_can_be_started_again(
    service: Server, jobs: Jobs, workspace: Workspace
) -> None:
    record = tuning(workspace.run())
    forget_stage(workspace, record)
    jobs.jobs.clear()
    message = (tuning(workspace.run()).error or {})["message"]
    (file,) = (workspace.store / "replies" / "jobs").glob("*.json")
    assert f"does not know the job {record.metrics['job']} any more" in message
    assert f"remove {file} to start another job" in message
    assert not jobs.jobs


def test_a_run_that_was_killed_goes_on_waiting_for_its_job(
    service: Server, jobs: Jobs, workspace: Workspace
) -> None:
    """Killed right after the request was sent, and while it waited."""
    record = tuning(workspace.run())
    (file,) = (workspace.store / "replies" / "jobs").glob("*.json")
    state = json.loads(file.read_text())
    for lost in ({"job"}, set()):
        kept = {name: value for name, value in state.items() if name not in lost}
        file.write_text(json.dumps(kept))
        forget_stage(workspace, record)
        assert tuning(workspace.run()).metrics["job"] == record.metrics["job"]
    assert len(jobs.jobs) == 1


@pytest.mark.parametrize(
    ("states", "said"),
    [(["running", "failed"], "has failed: the file has too few rows"),
     (["QUEUED", "TIMEOUT_EXCEEDED"], "has taken too long"),
     (["running", "error"], "has failed: out of quota"),
     (["queued", "expired"], "has expired: the service gives no reason"),
     (["queued", "cancelled"], "has been cancelled")],
)  # fmt: skip
def test_a_job_that_does_not_succeed_fails_its_cell_alone(
    service: Server, jobs: Jobs, workspace: Workspace, states: list[str], said: str
) -> None:
    jobs.states = states
    outcome = workspace.run()
    record = tuning(outcome)
    message = (record.error or {})["message"]
    assert said in message
    assert "to start another job" in message
    others = {r.label.split()[0] for r in outcome.records.values() if r.ok and r.kind == "generate"}
    assert others == {"zero-shot@tiny", "zero-shot@big", "lora-sft-tiny"}
    workspace.run()
    assert len(jobs.jobs) == 1
    (file,) = (workspace.store / "replies" / "jobs").glob("*.json")
    assert str(file) in message
    file.unlink()
    jobs.states = ["succeeded"]
    assert not workspace.run().failed
    assert len(jobs.jobs) == 2


def test_a_file_that_is_rejected_fails_with_the_services_words(
    service: Server, jobs: Jobs, workspace: Workspace
) -> None:
    jobs.refuses = True
    record = tuning(workspace.run())
    assert "line 1 is no chat" in (record.error or {})["message"]
    assert not jobs.jobs


def test_methods_and_models_of_another_kind_make_no_cell(
    service: Server, workspace: Workspace
) -> None:
    workspace.write(matrix={"method": ["fine_tuning_job"], "objective": [{"sft": SFT}]})
    groups = [path.variant.group for path in workspace.open().plan.paths]
    assert groups == ["zero-shot@tiny", "zero-shot@big", "fine_tuning_job-sft"]
    workspace.tree["models"].pop("big")
    workspace.tree["baseline"] = "zero-shot"
    with pytest.raises(SuiteError, match="nothing can be trained"):
        workspace.open()


def test_what_a_service_cannot_train_is_refused(service: Server, workspace: Workspace) -> None:
    dpo = {"dpo": {"start": "base", "data": "letters"}}
    workspace.write(matrix={"method": ["fine_tuning_job"], "objective": [dpo]})
    with pytest.raises((SuiteError, ModelError), match="fine_tuning_job asks it for sft alone"):
        workspace.open()


def test_a_secret_among_the_jobs_fields_is_refused(service: Server, workspace: Workspace) -> None:
    workspace.tree["matrix"]["method"][1]["fine_tuning_job"]["args"] = {"api_key": "sk-3"}
    with pytest.raises(SuiteError, match="api_key may hold a secret") as caught:
        workspace.open()
    assert "sk-3" not in str(caught.value)


def test_no_key_is_kept_with_a_job(
    service: Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIG_KEY", "sk-secret-2")
    workspace.tree["models"]["big"]["endpoint"]["api_key_env"] = "BIG_KEY"
    workspace.run()
    assert set(service.keys) == {"Bearer sk-secret-2"}
    for file in Path(workspace.folder).rglob("*"):
        assert not file.is_file() or b"sk-secret" not in file.read_bytes()


def test_a_key_in_the_words_of_a_service_is_masked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIG_KEY", "sk-0123456789abc")
    server = serve(lambda *_: as_json({"error": {"message": "no such key: sk-0123456789abc"}}))
    call = calls_of(ServedModel(base_url=server.url, model="m", api_key_env="BIG_KEY"))
    assert call("fine_tuning/jobs/1", None, dict) == {"error": {"message": "no such key: ***"}}


def test_a_budget_stops_a_job_before_it_is_started(
    service: Server, jobs: Jobs, workspace: Workspace
) -> None:
    big = workspace.tree["models"]["big"]["endpoint"]
    big["budget"] = {"money": 0.001}
    failed = tuning(workspace.run())
    assert failed.error is not None
    assert "could exceed the budget of 0.001 in money" in failed.error["message"]
    assert not jobs.jobs
    big["budget"] = {"money": 1}
    assert tuning(workspace.run()).ok, "what was set aside for no job is free again"
    files = (workspace.store / "replies").glob("*.jsonl")
    events = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [e["charged"] for e in events if e["asked"].startswith("job of") and "charged" in e] == [
        [1, 0, 0, 480]
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"budget": {"tokens": 9}, "n_epochs": None}, "set n_epochs"),
     ({"budget": {"money": 9}, "prices": {"prompt": 1, "completion": 1}}, "add `training:`")],
)  # fmt: skip
def test_a_job_that_no_budget_can_bound_is_not_started(
    service: Server, jobs: Jobs, workspace: Workspace, change: dict[str, Any], said: str
) -> None:
    if "n_epochs" in change:
        workspace.tree["matrix"]["method"][1]["fine_tuning_job"].pop("n_epochs")
        change = {"budget": change["budget"]}
    workspace.tree["models"]["big"]["endpoint"].update(change)
    failed = tuning(workspace.run())
    assert failed.error is not None
    assert said in str(failed.error)
    assert not jobs.jobs


def test_jobs_are_listed_and_cancelled_on_request(
    service: Server, jobs: Jobs, workspace: Workspace
) -> None:
    jobs.states = ["queued", "cancelled"]
    suite = [str(workspace.path), "--store", str(workspace.store)]

    def command(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["jobs", *arguments])

    workspace.write()
    assert "no job was started" in command("list", *suite).output
    tuning(workspace.run())
    listed = command("list", *suite)
    assert listed.exit_code == 0, listed.output
    assert listed.stdout.startswith("job-0  cancelled  ")
    typo = command("cancel", *suite, "job-1")
    assert typo.exit_code == 2
    assert "did you mean 'job-0'" in typo.output
    cancelled = command("cancel", *suite, "job-0")
    assert cancelled.exit_code == 0, cancelled.output
    assert "job-0: cancelled" in cancelled.stdout
    assert jobs.cancelled == ["job-0"]
