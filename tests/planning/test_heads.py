"""A plan refuses rows as a run does, by the first rows of local files."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest

from harness.commands.plan import describe_plan
from harness.core.errors import HarnessError
from harness.planning import heads
from tests.conftest import Workspace, chat_rows, write_jsonl

ASKED = [{"question": f"which letter is {i}", "reply": f"it is {i}"} for i in range(30)]
PREFERRED = [{"prompt": f"say {i}", "chosen": "yes", "rejected": "no"} for i in range(30)]
PROMPTS = [{"prompt": f"say {i}"} for i in range(30)]


def by_line(path: Path, rows: list[dict[str, Any]]) -> None:
    write_jsonl(path, rows)


def as_list(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"version": 1, "data": rows}, indent=1), encoding="utf-8")


def as_table(path: Path, rows: list[dict[str, Any]]) -> None:
    pd.DataFrame(rows).to_csv(path, index=False)


def as_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pd.DataFrame(rows).to_parquet(path)


def packed(path: Path, rows: list[dict[str, Any]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


WRITERS = {
    "rows.jsonl": by_line, "rows.json": as_list, "rows.csv": as_table, "rows.parquet": as_parquet,
    "rows.jsonl.gz": packed,
}  # fmt: skip


def refused(act: Callable[[], Any]) -> str:
    """The refusal, which begins with the suite's file and a place in it."""
    with pytest.raises(HarnessError) as caught:
        act()
    assert re.match(r"\S+\.yaml: [a-z_]+[.\[]", str(caught.value)), caught.value
    return str(caught.value)


MISTAKES: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]] = {
    "columns of no layout": ("train", {}, ASKED),
    "a misspelt column": ("train", {"map": {"prompt": "{qestion}", "completion": "reply"}}, ASKED),
    "a missing column": ("train", {"map": {"prompt": "question"}}, ASKED),
    "rows of another layout": ("train", {}, PREFERRED),
    "nothing is kept": ("train", {"where": {"reply": "never"}}, ASKED),
    "no row": ("train", {}, []),
    "equal ids": ("train", {}, [{**row, "id": "a"} for row in chat_rows(0, 9)]),
    "no reference": ("test", {}, PROMPTS),
    "texts to answer": ("test", {}, [{"text": "once"}] * 9),
}


@pytest.mark.parametrize("head", [heads.HEAD, 300])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_plan_refuses_rows_in_the_words_of_a_run(
    workspace: Workspace, mistake: str, head: int
) -> None:
    split, options, rows = MISTAKES[mistake]
    write_jsonl(workspace.folder / "rows.jsonl", rows)
    workspace.tree["data"]["letters"][split] = {"path": "rows.jsonl", **options}
    workspace.write(scorers=["exact_match"], evaluate=["letters"])
    with mock.patch.object(heads, "HEAD", head):
        planned = refused(lambda: describe_plan(workspace.open(), why=False))
    if head == heads.HEAD:
        assert planned == refused(workspace.run)
    assert "letters" in planned


@pytest.mark.parametrize("name", WRITERS)
def test_all_kinds_of_local_files_are_looked_into(workspace: Workspace, name: str) -> None:
    WRITERS[name](workspace.folder / name, ASKED)
    workspace.tree["data"]["letters"]["train"] = name
    workspace.write()
    with mock.patch.object(heads, "HEAD", 300):
        assert "question, reply make no layout" in refused(
            lambda: describe_plan(workspace.open(), why=False)
        )
        mapped = {"path": name, "map": {"prompt": "question", "completion": "reply"}}
        workspace.tree["data"]["letters"]["train"] = mapped
        workspace.write()
        assert " train " in describe_plan(workspace.open(), why=False)


def test_rows_after_the_head_can_mend_it_and_a_huge_file_is_not_read_to_its_end(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """A column that comes late, and rows that are kept late, are no mistakes."""
    rows = [{**row, "kind": "b" if i > 20 else "a"} for i, row in enumerate(chat_rows(0, 30))]
    write_jsonl(workspace.folder / "rows.jsonl", rows)
    for kept in ("b", "c"):
        workspace.tree["data"]["letters"]["train"] = {
            "path": "rows.jsonl", "where": {"kind": kept},
        }  # fmt: skip
        workspace.write()
        with mock.patch.object(heads, "HEAD", 400):
            if kept == "b":
                describe_plan(workspace.open(), why=False)
                assert capsys.readouterr().err == ""
            with mock.patch.object(heads, "WHOLE", 500):
                describe_plan(workspace.open(), why=False)
        assert "data.letters.train: no row of" in capsys.readouterr().err


def test_parts_of_a_mixture_are_held_to_one_layout(workspace: Workspace) -> None:
    write_jsonl(workspace.folder / "rows.jsonl", PREFERRED)
    workspace.tree["data"] |= {
        "other": {"train": "rows.jsonl"},
        "mixed": {"train": {"mixture": {"letters": 1, "other": 1}}},
    }
    workspace.tree["matrix"]["data"] = ["mixed"]
    workspace.write(evaluate=["letters"])
    planned = refused(lambda: describe_plan(workspace.open(), why=False))
    assert "the parts are of different layouts" in planned
    assert planned == refused(workspace.run)


@pytest.mark.parametrize("head", [heads.HEAD, 300])
def test_rows_of_a_mixture_are_of_its_parts_families(workspace: Workspace, head: int) -> None:
    """Rows without a family have the part's name, as in a run."""
    bare = [{k: v for k, v in row.items() if k != "task"} for row in chat_rows(0, 12)]
    for name in ("harmful", "harmless"):
        write_jsonl(workspace.folder / f"{name}.jsonl", bare)
        workspace.tree["data"][name] = {"test": f"{name}.jsonl"}
    parts = {"harmful": 1, "harmless": 1}
    workspace.tree["data"]["mixed"] = {"test": {"mixture": parts}}
    workspace.tree["matrix"]["data"] = ["letters"]
    for refuse in ("harmful", "cruel"):
        workspace.write(
            scorers=[{"refusal": {"data": "mixed", "refuse": [refuse]}}], evaluate=["mixed"]
        )
        with mock.patch.object(heads, "HEAD", head):
            if refuse == "harmful":
                assert " score " in describe_plan(workspace.open(), why=False)
            else:
                planned = refused(lambda: describe_plan(workspace.open(), why=False))
                assert "those of these rows: harmful, harmless" in planned
                assert planned == refused(workspace.run)


def test_a_huge_file_that_is_as_it_should_be_is_not_warned_of(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another one, which is read to its end, was in need of its later rows."""
    rows = [{**row, "kind": "b" if i > 20 else "a"} for i, row in enumerate(chat_rows(0, 30))]
    write_jsonl(workspace.folder / "late.jsonl", rows)
    write_jsonl(workspace.folder / "huge.jsonl", chat_rows(50, 100))
    workspace.tree["data"]["letters"] = {
        "train": {"path": "late.jsonl", "where": {"kind": "b"}}, "test": "huge.jsonl",
    }  # fmt: skip
    workspace.write()
    large = (workspace.folder / "late.jsonl").stat().st_size
    with mock.patch.object(heads, "HEAD", 400), mock.patch.object(heads, "WHOLE", large):
        describe_plan(workspace.open(), why=False)
    assert capsys.readouterr().err == ""
