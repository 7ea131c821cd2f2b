"""Test rows that stand in the training rows: each counted once, and told in one line."""

from __future__ import annotations

from typing import Any

from harness import comparison as compare
from harness.data.contamination import contamination
from harness.report import terminal_table
from tests.conftest import Workspace, chat_rows, write_jsonl

LONG = "the quick brown fox jumps over the lazy dog and then it sleeps until the next day"


def row(name: str, text: str) -> dict[str, Any]:
    return {"id": name, "prompt": text, "completion": "yes"}


def test_a_copy_is_exact_near_or_too_short_and_never_two_of_them() -> None:
    train = [row("a", LONG), row("b", "short one")]
    test = [
        row("exact", LONG.upper()),
        row("exact and short", "short  one"),
        row("near", LONG + " again"),
        row("short", "another"),
        row("new", " ".join(f"word{i}" for i in range(20))),
    ]
    found = contamination(train, test, 13)
    assert found["exact_ids"] == ["exact", "exact and short"]
    assert found["overlap_ids"] == ["near"]
    assert (found["exact"], found["overlap"], found["short"], found["test_rows"]) == (2, 1, 1, 5)


def test_copies_in_several_pairs_of_rows_are_told_in_one_line(workspace: Workspace) -> None:
    write_jsonl(workspace.folder / "test.jsonl", chat_rows(0, 6))
    for count, name in ((2, "one"), (3, "two")):
        write_jsonl(workspace.folder / f"{name}.jsonl", chat_rows(0, count))
        workspace.tree["data"][name] = {"test": f"{name}.jsonl"}
    objective = {"sft": {"max_steps": 1}}
    workspace.write(
        matrix={"method": ["full"], "data": ["letters"], "objective": [objective]},
        evaluate=["letters", "one", "two"], scorers=["exact_match"], base={},
    )  # fmt: skip
    outcome = workspace.run()
    opened = workspace.open()
    made = compare.compare(opened.plan, outcome.records, opened.store)
    (told,) = [note for note in made.notes if note.startswith("Contamination")]
    assert "in 3 of 3 pairs" in told
    assert "6 of 6 test rows stand in the training rows" in told
    assert terminal_table(made).count("Contamination") == 1
