"""Rows that were left out or cut are told wherever figures of them are: run, plan, report."""

from __future__ import annotations

import io
from typing import Any

import pytest

from harness import comparison as compare
from harness.commands import run as runs
from harness.commands.plan import describe_plan
from harness.report import render, terminal_table
from harness.scheduling.progress import ConsoleReporter
from harness.store.rows_used import RowsUsed, rows_used
from harness.store.stage import Record
from tests.conftest import Workspace, chat_rows, write_jsonl


def lossy(workspace: Workspace, overlong: str) -> None:
    """Of 24 training rows two are empty and nine too long; of 12 test rows one does not fit."""
    rows = chat_rows(0, 24)
    for row in rows[:9]:
        row["messages"][-1]["content"] = "x" * 100
    for row in rows[9:11]:
        row["messages"][-1]["content"] = " "
    write_jsonl(workspace.folder / "train.jsonl", rows)
    tests = chat_rows(100, 12)
    tests[0]["messages"][0]["content"] = "y" * 300
    write_jsonl(workspace.folder / "test.jsonl", tests)
    objective = {"sft": {"max_steps": 1, "max_length": 64, "overlong": overlong}}
    workspace.write(
        matrix={"method": ["full", "lora"], "objective": [objective]},
        scorers=["exact_match"], base={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("overlong", "trained"),
    [
        ("drop", "13 of 22 rows (9 over-long)"),
        ("truncate", "22 of 22 rows (9 cut to fit)"),
    ],
)
def test_rows_left_out_are_told_by_the_run_the_plan_and_the_report_alike(
    workspace: Workspace, overlong: str, trained: str
) -> None:
    lossy(workspace, overlong)
    stream = io.StringIO()
    opened = workspace.open()
    outcome = runs.run_stages(opened, ConsoleReporter(stream))
    lines = stream.getvalue().splitlines()
    assert "  22 of 24 rows (2 empty)" in next(x for x in lines if "letters/train" in x)
    for name in ("full-sft", "lora-sft"):
        assert trained in next(x for x in lines if " train " in x and name in x)
    assert sum("11 of 12 rows (1 over-long" in line for line in lines) == 2
    planned = describe_plan(workspace.open(), why=False)
    assert "data.letters.train: 2 of 24 rows left out (2 empty)" in planned
    assert "9 of 22 rows are over the 64 tokens" in planned
    made = compare.compare(opened.plan, outcome.records, opened.store)
    told = f"full-sft, lora-sft: training on {trained} of letters/train"
    (note,) = [note for note in made.notes if note.startswith("Rows: ")]
    assert "letters/train: 2 of 24 rows left out (2 empty)" in note
    assert told in note
    assert told in " ".join(terminal_table(made).split())
    render(made, workspace.folder / "report", examples=False)
    for name in ("report.md", "index.html"):
        text = (workspace.folder / "report" / name).read_text()
        assert "Rows used" in text
        assert told in text
        assert "letters/test" in text


@pytest.mark.parametrize(
    ("kind", "metrics", "used"),
    [
        ("data", {"rows": 5, "dropped": {"empty": 2, "over `limit`": 3}}, (10, 5, 0)),
        ("data", {"rows": 2, "gathered": 5, "dropped": {"empty": 2}}, (7, 5, 0)),
        ("data", {"rows": 9, "conversations": 4, "dropped": {}}, (4, 4, 0)),
        ("train", {"rows": {"given": 9, "over_length": 2, "overlong": "truncate_left",
                            "without_loss": 1, "unusable": {"no": 3}, "trained_on": 5,
                            "cut": 1}}, (9, 5, 1)),
        ("sample", {"rows": 3, "prompts_too_long": 1, "prompts_unusable": 2}, (6, 3, 0)),
        ("score", {"rows": 3, "unusable": {"no": 1}}, (4, 3, 0)),
    ],
)  # fmt: skip
def test_every_row_is_used_or_left_out(
    kind: str, metrics: dict[str, Any], used: tuple[int, int, int]
) -> None:
    record = Record(key="k", kind=kind, status="ok", config={}, metrics=metrics)
    found = rows_used(record)
    assert isinstance(found, RowsUsed)
    assert (found.given, found.used, found.cut) == used
    assert found.given == found.used + sum(found.left_out.values())


def test_rows_that_the_suite_leaves_out_itself_are_no_loss() -> None:
    asked = RowsUsed("a/train", "read", 9, 4, {"over `limit`": 5, "not `where`": 0})
    assert asked.lost == {}
