"""Folders that cannot be written, disks that are full: told before anything is spent, and nothing
is lost or half-written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.commands import report as reports
from harness.commands import run as runs
from harness.core.errors import StoreError
from harness.store import places
from harness.store.stage import Stage
from tests.conftest import Workspace
from tests.whole.test_run import kinds, outputs


def mounted() -> bool:
    """Whether this machine lets a process mount a disk of its own."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "none", "/mnt"]
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(command, check=False, capture_output=True).returncode
    )


own_disk = pytest.mark.skipif(not mounted(), reason="needs to mount a small disk")


def on_disk(workspace: Workspace, script: str) -> subprocess.CompletedProcess[str]:
    """A shell script in the workspace's folder, with a small empty disk at `disk`."""
    (workspace.folder / "disk").mkdir(exist_ok=True)
    command = f'harness() {{ "{sys.executable}" -m harness.cli "$@"; }}'
    whole = f"mount -t tmpfs -o size=64m none disk\n{command}\n{script}"
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", whole], cwd=workspace.folder, capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("option", ["--report-dir", "--records", "--store"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(
    workspace: Workspace, option: str
) -> None:
    (workspace.folder / "file").write_text("no folder")
    workspace.write()
    store = [] if option == "--store" else ["--store", "store"]
    done = workspace.command("run", "suite.yaml", *store, option, "file/inside")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "file/inside" in done.stderr
    assert option.removeprefix("--").split("-")[0] in done.stderr
    assert not list(workspace.store.glob("*/*/record.json"))


@own_disk
def test_a_read_only_store_is_refused_by_run_and_read_by_plan_and_report(
    workspace: Workspace,
) -> None:
    workspace.write(matrix={"method": ["full"], "objective": workspace.tree["matrix"]["objective"]})
    workspace.run()
    done = on_disk(
        workspace,
        "cp -r store disk/store; mount -o remount,ro disk\n"
        "harness run suite.yaml --store disk/store; echo run: $? >&2\n"
        "harness plan suite.yaml --store disk/store; echo plan: $? >&2\n"
        "harness report suite.yaml --store disk/store --report-dir disk/r; echo report: $? >&2\n",
    )
    assert "stages cannot be written into" in done.stderr
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.split(":")[0] in (
        "run", "plan", "report")] == ["run: 2", "plan: 0", "report: 0"]  # fmt: skip
    (told,) = (line for line in done.stdout.splitlines() if line.startswith("report: "))
    assert Path(told.removeprefix("report: ")).is_file()
    assert "instead of disk/r" in done.stderr


@pytest.mark.slow  # test_faults has a full disk that is only played, every day
@own_disk
def test_a_disk_that_fills_up_fails_cells_and_no_half_written_output_is_read_as_done(
    workspace: Workspace,
) -> None:
    expected = outputs(workspace.run(store=workspace.folder / "whole"))
    workspace.write()
    done = on_disk(
        workspace,
        "mkdir disk/store; harness plan suite.yaml --store disk/store > plan.txt\n"
        "free=$(df -k --output=avail disk | tail -n 1)\n"
        "head -c $((free - 420))k /dev/zero > disk/ballast\n"
        "harness run suite.yaml --store disk/store --report-dir reports; echo run: $? >&2\n"
        "rm disk/ballast; cp -r disk/store full\n",
    )
    assert "run: 5" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr
    again = workspace.run(store=workspace.folder / "full")
    assert again.ran
    assert outputs(again) == expected


def test_a_report_that_cannot_be_written_at_the_end_is_not_lost(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.write(matrix={"method": ["full"], "objective": workspace.tree["matrix"]["objective"]})
    opened = workspace.open()
    outcome = runs.run_stages(opened)
    (workspace.folder / "file").write_text("no folder")
    wanted = workspace.folder / "file" / "report"
    reported = reports.report(opened, outcome.records, wanted, examples=True)
    assert reported.folder == workspace.store / "reports" / "tiny"
    assert (reported.folder / "index.html").is_file()
    said = capsys.readouterr().err
    assert f"the report is in {reported.folder} instead of {wanted}" in said
    assert "Not a directory" in said
    shutil.rmtree(reported.folder)
    reported.folder.parent.rmdir()
    reported.folder.parent.write_text("no folder either")
    elsewhere = reports.report(opened, outcome.records, wanted, examples=True).folder
    assert (elsewhere / "index.html").is_file()
    shutil.rmtree(elsewhere)


def test_half_a_report_is_made_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    render = sys.modules["harness.report.render"]
    workspace.write(matrix={"method": ["full"], "objective": workspace.tree["matrix"]["objective"]})
    opened, folder = workspace.open(), workspace.folder / "report"
    outcome = runs.run_stages(opened)
    whole = reports.report(opened, outcome.records, folder, examples=True)
    write = render._write

    def fails_late(path: Path, content: bytes) -> Path:
        if path.parent == folder and path.name == "index.html":
            raise OSError(28, "No space left on device")
        return write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(render, "_write", fails_late)
        reports.report(opened, outcome.records, folder, examples=False)
    again = reports.report(opened, outcome.records, folder, examples=True)
    assert again.comparison is not None
    assert again.text == whole.text


def test_checkpoints_larger_than_the_disk_are_refused_before_anything_is_trained(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(workspace.folder)._replace(free=100_000)
    monkeypatch.setattr(places.shutil, "disk_usage", lambda path: free)
    with pytest.raises(StoreError, match=r"0\.00 GB free, and the 2 checkpoints of this run take"):
        workspace.run()
    assert not list(workspace.store.glob("train/*/record.json"))
    monkeypatch.setattr(places.shutil, "disk_usage", lambda path: free._replace(free=2**40))
    first = workspace.run()
    assert "train" in kinds(first)
    predicted = {r.label: r.cost["predicted"]["checkpoint_bytes"] / r.cost["checkpoint_bytes"]
                 for r in first.records.values() if r.kind == "train"}  # fmt: skip
    assert predicted["full-sft"] == pytest.approx(1, abs=0.1)
    assert predicted["lora-sft"] == pytest.approx(1, abs=0.4)  # of a tiny one, the names count too


def test_only_known_sizes_count() -> None:
    unknown = Stage(kind="train", config={})
    places.require_space([unknown], Path("/"))
