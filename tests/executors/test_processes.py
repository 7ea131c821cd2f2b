"""Workers as processes: they end with their run, whatever ends it, and none outlives a failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import worker
from harness.executors.base import Finished, Note
from harness.executors.local import LocalSession
from harness.store import lock as stage_lock
from harness.store.stage import Resources, Stage, read_record
from tests.conftest import Workspace
from tests.whole.test_faults import LONG, WORK, slow_suite

KINDS = {
    "pids": """
        import os
        def run(job):
            return {"pid": os.getpid()}
    """,
    "broken": """
        def run(job):
            raise RuntimeError("CUDA error: device-side assert triggered")
    """,
    "family": """
        import os, subprocess, time
        def run(job):
            child = subprocess.Popen(["sleep", "600"])
            (job.folder / "started").write_text(f"{os.getpid()} {child.pid}")
            time.sleep(600)
    """,
    "deaf": """
        import os, re, subprocess
        def run(job):
            child = subprocess.Popen(["sleep", "600"])
            (job.folder / "started").write_text(f"{os.getpid()} {child.pid}")
            re.match("(a|a)*b", "a" * 60)  # C code for ever, which holds Python's lock
    """,
    "leaver": """
        import os, time
        def run(job):
            if os.fork() == 0:
                time.sleep(600)
            os._exit(3)
    """,
    "deserter": """
        import os, time
        def run(job):
            if os.fork() == 0:
                os.setsid()
                time.sleep(3)
                os._exit(0)
            os._exit(3)
    """,
}
"""Work of stages that import nothing heavy."""
AS_A_KIND = """
from harness.stages.base import StageKind

class Kind(StageKind):
    called: str

    def run(self, job):
        return run(job)
"""


@pytest.fixture
def kinds(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker that knows the stages above."""
    return kinds_in(tmp_path / "kinds", KINDS)


def kinds_in(folder: Path, kinds: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker that knows kinds of stages by their code, written to a folder."""
    import textwrap

    folder.mkdir()
    for name, code in kinds.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(code) + AS_A_KIND)
    (folder / "sitecustomize.py").write_text(
        f"import harness.stages\nharness.stages.__path__.append({str(folder)!r})\n"
    )
    return {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}


def folder_of(root: Path, kind: str, name: str = "") -> Path:
    stage = Stage(kind=kind, label=name or kind, config={"called": name})
    folder = stage.path(root / "store")
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text(json.dumps(stage.spec()))
    return folder


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalSession]:
    made = LocalSession(1, 1, [], tmp_path / "log.txt")
    yield made
    made.close()


def end_of(session: LocalSession) -> Finished:
    found: list[Any] = []
    until(lambda: any(isinstance(e, Finished) for e in found) or found.extend(session.wait(0.1)))
    return next(event for event in found if isinstance(event, Finished))


def until(true: Callable[[], Any], seconds: float = 200) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def pids_of(folder: Path) -> list[int]:
    until(lambda: (folder / "started").is_file() and (folder / "started").read_text())
    return [int(pid) for pid in (folder / "started").read_text().split()]


@pytest.mark.parametrize("kind", ["family", "deaf"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_killed_run_leaves_no_worker_and_nothing_that_a_worker_started(
    tmp_path: Path, kinds: dict[str, str], kind: str, number: int
) -> None:
    folder = folder_of(tmp_path, kind)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from harness.executors.local import LocalSession\n"
        "from harness.store.stage import Resources\n"
        "session = LocalSession(1, 1, [], Path(sys.argv[2]))\n"
        "session.submit(Path(sys.argv[1]), Resources())\n"
        "time.sleep(600)\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "log.txt")],
        env={**os.environ, **kinds},
    )
    pids = pids_of(folder)
    assert all(alive(pid) for pid in pids)
    run.send_signal(number)
    run.wait()
    until(lambda: not any(alive(pid) for pid in pids))


def test_closed_session_leaves_nothing_that_a_worker_started(
    tmp_path: Path, kinds: dict[str, str]
) -> None:
    session = LocalSession(1, 1, [], tmp_path / "log.txt")
    folder = folder_of(tmp_path, "family")
    session.submit(folder, Resources(env=kinds))
    pids = pids_of(folder)
    session.close()
    until(lambda: not any(alive(pid) for pid in pids))


def test_sound_worker_takes_the_next_stage_and_a_failed_ones_is_replaced(
    tmp_path: Path, kinds: dict[str, str], local: LocalSession
) -> None:
    pids = []
    for name, kind in enumerate(["pids", "pids", "broken", "pids"]):
        folder = folder_of(tmp_path, kind, str(name))
        local.submit(folder, Resources(env=kinds))
        assert end_of(local).error is None
        record = read_record(folder)
        assert record is not None
        pids.append(record.metrics.get("pid"))
    assert pids[0] == pids[1] != pids[3]
    assert record.ok


@pytest.mark.parametrize("kind", ["leaver", "deserter"])
def test_worker_that_dies_is_noticed_though_what_it_started_lives_on(
    tmp_path: Path, kinds: dict[str, str], local: LocalSession, kind: str
) -> None:
    local.submit(folder_of(tmp_path, kind), Resources(env=kinds))
    error = end_of(local).error
    assert error is not None
    assert error["message"].startswith("the worker ended with exit status 3")


def test_a_waiting_run_says_whom_it_waits_for_and_a_stages_end_frees_its_lock(
    tmp_path: Path, kinds: dict[str, str], local: LocalSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []  # objects that Python has not freed yet must not hold what they locked
    made = stage_lock.FileLock
    monkeypatch.setattr(stage_lock, "FileLock", lambda path: kept.append(made(path)) or kept[-1])
    folder = folder_of(tmp_path, "pids")
    notes: list[str] = []
    with stage_lock.locked(folder, 4711, notes.append):
        local.submit(folder, Resources(env=kinds))
        until(lambda: notes.extend(e.text for e in local.wait(0.1) if isinstance(e, Note)) or notes)
    assert f"waits for another run, process 4711 on {os.uname().nodename}, that" in notes[0]
    assert "since 20" in notes[0]
    assert end_of(local).error is None
    monkeypatch.setattr(worker, "_run", lambda *_: read_record(folder))
    (folder / "record.json").write_text("damaged")
    worker.run_stage(folder, notes.append)
    assert not any(lock.is_locked for lock in kept)
    assert not (folder / stage_lock.HOLDER).exists()


def run_of(workspace: Workspace, name: str) -> tuple[subprocess.Popen[bytes], Callable[[], str]]:
    """A run of the suite, and what it has said until now."""
    log = workspace.folder / f"{name}.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", "run", "suite.yaml", "--store", "store"],
            cwd=workspace.folder, stdout=stream, stderr=stream, preexec_fn=_hear,
        )  # fmt: skip
    return process, log.read_text


def _hear() -> None:
    """What ignores signals (nohup) hands that on, and these tests may run under it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.timeout(600)
def test_signals_end_a_run_as_ctrl_c_does_and_another_run_goes_on_from_its_checkpoint(
    workspace: Workspace,
) -> None:
    slow_suite(workspace)
    endless = {"sft": {**LONG["sft"], "num_train_epochs": 5000}}
    workspace.write(matrix={"method": ["full"], "objective": [endless]})
    first, said = run_of(workspace, "first")
    until(lambda: list(workspace.store.glob(f"train/*/{WORK}/*/complete")))
    second, heard = run_of(workspace, "second")
    until(lambda: f"waits for another run, process {first.pid} on" in heard())
    workers = workers_of(first)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=200) == 128 + signal.SIGTERM
    assert "stopped; the next `harness run` goes on from here" in said()
    assert "Traceback" not in said()
    assert workers
    assert not any(alive(pid) for pid in workers)
    until(lambda: "train full-sft: goes on after step" in heard())
    workers = workers_of(second)
    second.send_signal(signal.SIGHUP)
    assert second.wait(timeout=200) == 128 + signal.SIGHUP
    assert "stopped; the next `harness run` goes on from here" in heard()
    assert not any(alive(pid) for pid in workers)
