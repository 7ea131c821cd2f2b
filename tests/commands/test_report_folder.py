"""A report of another suite, or of an import, stays as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.commands import report as reports
from harness.commands.report_folder import REPORTS, STAMP, about_folder, folder_of


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two suites of one name."""
    (tmp_path / "here" / "other").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    for name in ("demo.yaml", "other/demo.yaml"):
        Path(name).touch()
    return tmp_path


def reported(suite: str, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> Path:
    """The folder that a suite's report was written into."""

    def rendered(_: Any, folder: Path, *, examples: bool) -> list[Path]:
        if error is not None:
            raise error
        (folder / "index.html").write_text(suite, encoding="utf-8")
        return [folder / "index.html"]

    monkeypatch.setattr("harness.report.render", rendered)
    monkeypatch.setattr("harness.report.terminal_table", lambda _: "")
    monkeypatch.setattr(reports, "compared", lambda *_: None)
    monkeypatch.setattr(reports, "_inputs", lambda *_, examples: suite)
    opened: Any = SimpleNamespace(loaded=SimpleNamespace(path=Path(suite)), seconds={},
                                  plan=SimpleNamespace(suite=SimpleNamespace(name="demo")),
                                  store=SimpleNamespace(root=Path("store")))  # fmt: skip
    folder = folder_of(Path(suite), "demo")
    return reports.report(opened, {}, folder, examples=True).folder


def test_another_suite_of_the_name_gets_a_folder_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual, second = REPORTS / "demo", REPORTS / "demo-2"
    assert reported("demo.yaml", monkeypatch) == usual
    assert about_folder(usual, usual) == ""
    assert reported("other/demo.yaml", monkeypatch) == second
    assert f"{usual} has another report; --report-dir {usual} replaces it" in about_folder(
        second, usual
    )
    assert (usual / "index.html").read_text(encoding="utf-8") == "demo.yaml"
    # Each of them finds its own again, whatever was written last, and however it is called.
    assert reported("demo.yaml", monkeypatch) == usual
    assert reported("other/../demo.yaml", monkeypatch) == usual
    assert reported("other/demo.yaml", monkeypatch) == second


def test_a_suite_that_was_renamed_or_is_written_anew_each_time_finds_its_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a pipeline does it in a temporary folder; there was one report more for each run."""
    for number in range(3):
        suite = Path(f"try-{number}.yaml")
        suite.touch()
        assert reported(str(suite), monkeypatch) == REPORTS / "demo"
        suite.unlink()


@pytest.mark.parametrize("stamp", [[], {}, {"suite": "x"}, {"inputs": "", "text": ""}, "text"])
def test_a_stamp_that_lacks_a_part_is_none(stamp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = reported("demo.yaml", monkeypatch)
    (folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
    text = "## To make this again\n\n```sh\nharness run demo.yaml\n```\n"
    (folder / "report.md").write_text(f"# demo\n\n{text}", encoding="utf-8")
    assert reported("demo.yaml", monkeypatch) == folder


def test_a_report_that_no_suite_made_is_anothers() -> None:
    (REPORTS / "demo").mkdir(parents=True)
    assert folder_of(Path("demo.yaml"), "demo") == REPORTS / "demo"  # nothing is there
    (REPORTS / "demo" / "index.html").touch()
    assert folder_of(Path("demo.yaml"), "demo") == REPORTS / "demo-2"


@pytest.mark.parametrize("stamped", [True, False])
def test_a_report_without_the_suite_in_its_stamp_is_of_the_suite_in_its_command(
    stamped: bool,
) -> None:
    """Stamps of older versions do not name it, and who commits a report may leave the stamp out."""
    folder = REPORTS / "demo"
    folder.mkdir(parents=True)
    (folder / "index.html").touch()
    if stamped:
        (folder / STAMP).write_text(json.dumps({"inputs": "", "files": [], "text": ""}))
    for command, own in (
        ("harness run ./demo.yaml --set 'a=[0, 1]'", True), ("harness report demo.yaml", True),
        ("harness run other/demo.yaml", False), ("harness import demo.yaml", False), ("", False),
    ):  # fmt: skip
        text = f"# demo\n\n## To make this again\n\n```sh\n{command}\n```\n"
        (folder / "report.md").write_text(text, encoding="utf-8")
        assert (folder_of(Path("demo.yaml"), "demo") == folder) is own, command


def test_a_report_is_its_suites_after_both_moved_and_while_it_is_incomplete(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = reported("demo.yaml", monkeypatch)
    shutil.copytree(project / "here", project / "there")
    monkeypatch.chdir(project / "there")
    assert reported("demo.yaml", monkeypatch) == usual
    monkeypatch.setattr(reports, "stamp", lambda _: None)
    with pytest.raises(RuntimeError, match="stopped"):
        reported("demo.yaml", monkeypatch, RuntimeError("stopped"))
    assert folder_of(Path("demo.yaml"), "demo") == usual
    assert folder_of(Path("other/demo.yaml"), "demo") == REPORTS / "demo-2"
