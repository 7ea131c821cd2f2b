"""Kills, dead workers, full disks, numbers that are none: the cell fails, the matrix goes on."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness import worker
from harness.commands import report as reports
from harness.commands import run as runs
from harness.core.errors import HarnessError
from harness.scheduling.progress import ConsoleReporter
from harness.stages.base import WORK
from tests.conftest import DPO, SFT, Workspace, chat_rows, write_jsonl
from tests.whole.test_run import outputs

LONG = {"sft": {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "max_length": 64,
                "num_train_epochs": 20}}  # fmt: skip


def slow_suite(workspace: Workspace) -> None:
    """Training long enough to be killed in the middle, with a checkpoint every few steps."""
    write_jsonl(workspace.folder / "train.jsonl", chat_rows(0, 40))
    workspace.write(
        matrix={"method": ["full", {"lora": {"r": 2}}], "objective": [LONG]},
        executor={"local": {"threads": 1}},
        resources={"checkpoint_seconds": 0.2},
        scorers=["rouge"],
    )


def start(workspace: Workspace) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "run", "suite.yaml", "--store", "store"],
        cwd=workspace.folder, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill_when(workspace: Workspace, seen: str, after: float = 0.0) -> bool:
    """SIGKILL a run and its workers once a file like `seen` is there; False if it had ended."""
    run = start(workspace)
    deadline = time.monotonic() + 600
    try:
        while not list(workspace.store.glob(seen)):
            if run.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        time.sleep(after)
        return run.poll() is None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()


@pytest.fixture
def undisturbed(workspace: Workspace) -> dict[str, object]:
    """The outputs of a run that nobody kills, in this process."""
    slow_suite(workspace)
    workers = workspace.tree["executor"]
    workspace.write(executor="inline")
    whole = outputs(workspace.run(store=workspace.folder / "undisturbed"))
    workspace.write(executor=workers)
    return whole


def test_killed_run_goes_on_to_the_same_outputs(
    workspace: Workspace, undisturbed: dict[str, object]
) -> None:
    """Killed amid a training, in a worker; other moments are those of the next test."""
    assert kill_when(workspace, f"train/*/{WORK}/*/complete")
    assert not list(workspace.store.glob("train/*/record.json"))
    assert list(workspace.store.glob(f"train/*/{WORK}/*/complete"))
    workspace.write(executor="inline")
    assert outputs(workspace.run()) == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_run_killed_at_twenty_moments_ends_with_the_same_outputs(
    workspace: Workspace, undisturbed: dict[str, object]
) -> None:
    kills = 0
    for moment in range(20):
        seen = "train/*/steps.jsonl" if moment % 2 else "*/*/stage.json"
        kills += kill_when(workspace, seen, after=0.37 * moment % 2.9)
    assert kills >= 3
    assert outputs(workspace.run()) == undisturbed


@pytest.mark.slow
def test_dead_worker_takes_one_stage_with_it(workspace: Workspace) -> None:
    slow_suite(workspace)

    def assassin() -> None:
        while not list(workspace.store.glob(f"train/*/{WORK}/*/complete")):
            time.sleep(0.02)
        found = subprocess.run(
            ["pgrep", "-P", str(os.getpid()), "-f", "harness.worker"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        os.kill(int(found.stdout.split()[0]), signal.SIGKILL)

    thread = threading.Thread(target=assassin)
    thread.start()
    outcome = workspace.run()
    thread.join()
    reasons = {(r.kind, (r.error or {})["reason"]) for r in outcome.failed}
    assert ("train", "worker killed") in reasons
    assert len([r for r in outcome.records.values() if r.kind == "train" and r.ok]) == 1
    assert not workspace.run().failed


@pytest.mark.slow
def test_two_runs_on_one_store_do_not_harm_each_other(
    workspace: Workspace, undisturbed: dict[str, object]
) -> None:
    first, second = start(workspace), start(workspace)
    assert first.wait(timeout=600) == 0
    assert second.wait(timeout=600) == 0
    outcome = workspace.run()
    assert outcome.ran == []
    assert outputs(outcome) == undisturbed


def test_loss_that_is_no_number_fails_the_cell_and_the_report_says_so(
    workspace: Workspace,
) -> None:
    workspace.write(
        overrides=[
            {
                "match": {"method": "full"},
                "set": {"sft.learning_rate": 1e30, "sft.max_grad_norm": 0},
            }
        ]
    )
    opened = workspace.open()
    outcome = runs.run_stages(opened)
    reasons = {(r.error or {})["reason"] for r in outcome.failed}
    assert reasons == {"loss is not a number"}
    text = reports.report(opened, outcome.records, workspace.folder / "r", examples=True).text
    assert "lora-sft" in text
    assert "not a number" in text or "is nan" in text


def test_report_from_a_store_with_a_failed_start_shows_what_the_run_showed(
    aligned: Workspace,
) -> None:
    aligned.tree["matrix"] |= {"objective": [{"sft": SFT}, {"dpo": DPO}]}
    aligned.tree["reward_model"] = {}
    bad = {"sft.learning_rate": 1e30, "sft.max_grad_norm": 0}
    aligned.write(overrides=[{"match": {"method": "full"}, "set": bad}])
    opened = aligned.open()
    outcome = runs.run_stages(opened)
    first = reports.report(opened, outcome.records, aligned.folder / "a", examples=True)
    again = aligned.open()
    records = reports.stored(again)
    told = {key: (r.status, (r.error or {}).get("message")) for key, r in records.items()}
    assert told == {
        k: (r.status, (r.error or {}).get("message")) for k, r in outcome.records.items()
    }
    assert reports.report(again, records, aligned.folder / "b", examples=True).text == first.text
    skipped = {r.label for r in records.values() if (r.error or {}).get("skipped")}
    assert "full-dpo" in skipped
    assert {r.label for r in records.values() if r.kind == "train" and r.ok} == {
        "lora-sft", "lora-dpo"
    }  # fmt: skip
    assert len(reports.failures(again, records)) == len(outcome.failed) > 0


def test_a_failure_is_told_once_and_what_rests_on_it_names_it_shortly(
    workspace: Workspace,
) -> None:
    bad = {"sft.args": {"lr_scheduler_kwargs": {"no_such": 1}}}
    rule = {"match": {"method": "lora"}, "set": bad}
    workspace.write(overrides=[rule])
    opened, stream = workspace.open(only="lora-sft"), io.StringIO()
    outcome = runs.run_stages(opened, ConsoleReporter(stream))
    lines = [line for line in stream.getvalue().splitlines() if " lora-sft" in line]
    failed = [line for line in lines if "FAILED" in line]
    assert len(failed) == 1
    assert "no_such" in failed[0]
    rest = [line for line in lines if "not run" in line]
    assert len(rest) == len(outcome.failed) - 1 > 2
    assert all(line.endswith("as its input train lora-sft failed") for line in rest)


def test_report_needs_what_no_failure_kept_from_running(workspace: Workspace) -> None:
    with pytest.raises(HarnessError, match="18 stages have not run: data letters/test"):
        reports.stored(workspace.open())
    workspace.run()
    (record, *_) = workspace.store.glob("generate/*/record.json")
    record.unlink()
    with pytest.raises(HarnessError, match="1 stage has not run: generate") as refused:
        reports.stored(workspace.open("generate.max_new_tokens=4", only="*"))
    assert "--set generate.max_new_tokens=4 --only '*'" in str(refused.value)


def test_worker_that_ends_without_a_word_leaves_its_failure_in_the_store(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_in_training(folder: Path, emit: object) -> None:
        if folder.parent.name != "train":
            alive(folder, emit)

    alive = worker.run_stage
    with monkeypatch.context() as patched:
        patched.setattr(worker, "run_stage", dies_in_training)
        outcome = workspace.run()
    found = reports.stored(workspace.open())
    reasons = {key: (r.error or {}).get("reason") for key, r in found.items()}
    assert reasons == {key: (r.error or {}).get("reason") for key, r in outcome.records.items()}
    assert "no record" in reasons.values()
    assert not workspace.run().failed


def test_full_disk_and_exhausted_memory_are_named_as_such(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.stages import generate, score

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def exhausted(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(score, "write_scores", full)
    monkeypatch.setattr(generate, "generate", exhausted)
    outcome = workspace.run()
    found = {(r.kind, (r.error or {})["reason"]) for r in outcome.failed}
    assert ("generate", "out of memory") in found
    assert ("score", "disk full") in found


def test_failed_cell_gives_exit_status_5_and_is_tried_again(workspace: Workspace) -> None:
    workspace.write(
        overrides=[
            {
                "match": {"method": "full"},
                "set": {"sft.args": {"lr_scheduler_kwargs": {"no_such": 1}}},
            }
        ]
    )
    done = workspace.command("run", "suite.yaml", "--store", "store")
    assert done.returncode == 5, done.stderr
    assert "FAILED" in done.stderr
    assert "lora-sft" in done.stdout
    pair = ("suite.yaml:full-sft", "suite.yaml:lora-sft")
    assert workspace.command("compare", *pair, "--store", "store").returncode == 5
    workspace.write(overrides=[])
    assert not workspace.run().failed


def test_corrupted_checkpoint_of_a_killed_stage_is_not_resumed_from(tmp_path: Path) -> None:
    from harness.objectives._trl.trainer import COMPLETE, last_checkpoint

    for step, whole in ((2, True), (4, True), (6, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"x")
        if whole:
            (folder / COMPLETE).touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    assert not (tmp_path / "checkpoint-6").exists()
