"""A suite that asks for more rows than there are is told so, before and after they are read."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.planning.shortfalls import shortfalls
from harness.store.kind import RowCounts
from harness.suite.suite import load_suite
from tests.conftest import Workspace, chat_rows, write_jsonl


class Planned:
    """As much of a plan as is read: one split that was read."""

    def __init__(self, workspace: Workspace, **test: Any) -> None:
        workspace.write(
            data={"letters": {"train": "train.jsonl", "test": {"path": "x.jsonl", **test}}}
        )
        self.suite = load_suite(str(workspace.path)).suite
        self.data = {("letters", "test"): None}


@pytest.mark.parametrize(
    ("asked", "used", "left_out", "told"),
    [
        ({"rows": [80, 500]}, 40, {"outside `rows`": 80}, "asks for 420 rows, and there are 120"),
        ({"rows": [80, 120]}, 40, {"outside `rows`": 80}, ""),
        ({"rows": [80, None]}, 40, {"outside `rows`": 80}, ""),
        ({"limit": 500}, 120, {}, "`limit: 500` is more than there are: it takes 120 rows"),
        ({"limit": 120}, 120, {}, ""),
        ({"limit": 120}, 118, {"an empty answer": 2}, ""),
        ({"limit": 50}, 50, {"over `limit`": 70}, ""),
        ({"where": {"a": "b"}}, 3, {"not `where`": 9_997}, "`where` keeps 3 of 10,000 rows"),
        ({"where": {"a": "b"}}, 600, {"not `where`": 400}, ""),
        ({"min_chars": {"a": 9}}, 4, {"not `min_chars`": 16}, "`min_chars` keeps 4 of 20 rows"),
    ],
)
def test_split_of_which_less_is_left_than_was_asked_for_is_told(
    workspace: Workspace, asked: dict[str, Any], used: int, left_out: dict[str, int], told: str
) -> None:
    planned: Any = Planned(workspace, **asked)
    sentences = list(shortfalls(planned, lambda _: RowCounts(used, left_out)))
    assert len(sentences) == bool(told)
    assert all(s.startswith("data.letters.test: ") and told in s for s in sentences)
    assert not list(shortfalls(planned, lambda _: None))
    assert not list(shortfalls(planned, lambda _: RowCounts(used, left_out), only="other"))


def test_plan_data_and_report_say_it(workspace: Workspace) -> None:
    data = workspace.tree["data"]["letters"]
    write_jsonl(workspace.folder / "few.jsonl", chat_rows(0, 12))
    train, test = {"path": data["train"], "limit": 99}, {"path": "few.jsonl", "rows": [4, 500]}
    workspace.write(data={"letters": {"train": train, "test": test}}, scorers=["exact_match"])
    short = "data.letters.test: `rows: [4, 500]` asks for 496 rows, and there are 12 in all"
    few = "data.letters.train: `limit: 99` is more than there are: it takes 24 rows"
    where = ["--store", str(workspace.store), "--only", "zero-shot"]
    for command, options, words in (
        ("plan", [], short), ("plan", [], few), ("data", where[:2], few),
        ("run", [*where, "--report-dir", str(workspace.folder / "report")], short),
    ):  # fmt: skip
        options = options or where[:2]
        done = CliRunner().invoke(main, [command, str(workspace.path), *options])
        assert words in " ".join(done.output.split()), done.output
