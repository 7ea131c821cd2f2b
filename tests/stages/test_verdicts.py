"""A judge of a suite judges contests of a file, through the store like any other work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.run import run_beside
from harness.core.errors import DataError, SuiteError
from harness.core.files import digest_file
from harness.data.contest_files import read_contests
from harness.data.contests import Contest
from harness.data.verdict_lines import read_lines
from harness.labellers.base import LabelJob
from harness.labellers.replay import Replay
from harness.planning.judging import judge_called, judges_of
from tests.conftest import Workspace, write_jsonl

CONTESTS = [
    {"id": "a", "prompt": "Q", "one": "long answer", "other": "short", "truth": 1},
    {"id": "b", "prompt": [{"role": "user", "content": "Q"}], "one": "x?", "other": "y"},
    {"prompt": "Q", "one": "same", "other": "same"},
]
BARE = "{{ question }} {{ a }} {{ b }}"


@pytest.fixture
def judging(workspace: Workspace) -> Workspace:
    write_jsonl(workspace.folder / "contests.jsonl", CONTESTS)
    members = ["longest", {"judge": {"prompt": BARE}}]
    workspace.write(
        scorers=[
            "exact_match",
            {"pairwise": {"labeller": "longest"}},
            {"pairwise": {"labeller": {"panel": {"members": members}}, "label": "both"}},
        ],
    )
    return workspace


def test_judges_that_are_called_alike_are_told_apart(judging: Workspace) -> None:
    """By a number that no label has, and by who asks them."""
    judge = {"judge": {"prompt": BARE}}
    scorers = [
        {"pairwise": {"labeller": "longest", "label": "judge-2"}},
        {"pointwise": {"labeller": judge, "prompt": "{{ answer }}?"}},
        {"listwise": {"labeller": judge}},
    ]
    judging.write(scorers=["exact_match", *scorers])
    planned = judging.open().plan
    assert [(name, judge.form) for name, judge in judges_of(planned).items()] == [
        ("judge", "pointwise"), ("judge-2", "listwise"), ("judge-2-2", "pairwise"),
    ]  # fmt: skip
    with pytest.raises(SuiteError, match=r"3 judges: judge \(pointwise\), judge-2 \(listwise\)"):
        judge_called(planned, None)


def test_a_judge_judges_a_file_and_nothing_else_runs(judging: Workspace) -> None:
    opened = judging.open()
    assert list(judges_of(opened.plan)) == ["longest", "both"]
    file = judging.folder / "contests.jsonl"
    stage = judge_called(opened.plan, "longest").contests(file, opened.store)
    outcome = run_beside(opened, [stage])
    assert [outcome.records[key].kind for key in outcome.ran] == ["verdicts"]
    record = outcome.records[stage.key]
    assert record.ok, record.error
    assert record.metrics["missing"] == {"a question": 1}
    lines = read_lines(stage.path(opened.store.root))
    assert [(line["example_id"], line["verdict"]) for line in lines] == [
        ("a", 1.0), ("b", None), ("3", 0.5),
    ]  # fmt: skip
    assert run_beside(opened, [stage]).ran == []
    again = judge_called(opened.plan, "longest").contests(file, opened.store, repeat=1)
    assert again.key != stage.key


def test_a_panel_with_a_local_model_judges_a_file_in_both_orders(judging: Workspace) -> None:
    opened = judging.open()
    file = judging.folder / "contests.jsonl"
    stage = judge_called(opened.plan, "both").contests(file, opened.store)
    outcome = run_beside(opened, [stage])
    record = outcome.records[stage.key]
    assert record.ok, record.error
    lines = read_lines(stage.path(opened.store.root))
    assert {(line["judge"], line["order"]) for line in lines} == {
        (None, 0), (None, 1), ("0 longest", 0), ("1 judge", 0), ("1 judge", 1),
    }  # fmt: skip
    write_jsonl(file, CONTESTS[:1])
    assert judge_called(opened.plan, "both").contests(file, opened.store).key != stage.key


def test_which_judge_is_meant_is_asked_for(judging: Workspace) -> None:
    planned = judging.open().plan
    with pytest.raises(SuiteError, match=r"2 judges: longest \(pairwise\), both \(pairwise\)"):
        judge_called(planned, None)
    with pytest.raises(SuiteError, match="did you mean 'longest'"):
        judge_called(planned, "longst")
    judging.write(scorers=["exact_match"])
    with pytest.raises(SuiteError, match="no scorer of the suite asks a judge"):
        judge_called(judging.open().plan, None)
    judging.write(scorers=["exact_match", {"pairwise": {"labeller": "longest"}}])
    assert judge_called(judging.open().plan, None).name == "longest"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no contest"),
        ("{", "line 1 is no JSON"),
        ("[]", "line 1 is no object"),
        ('{"prompt": "q", "one": "a"}', "`other` is no text"),
        ('{"prompt": "q", "one": "a", "other": 3}', "`other` is no text"),
        ('{"prompt": [], "one": "a", "other": "b"}', "`prompt` is no text"),
        ('{"prompt": [{"role": "user"}], "one": "a", "other": "b"}', "`prompt` is no text"),
        ('{"id": 7, "prompt": "q", "one": "a", "other": "b"}\n' * 2, "the id '7' stands twice"),
    ],
)
def test_a_file_of_no_contests_is_refused_with_its_line(
    tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "contests.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        read_contests(file)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"[" * 100_000])
def test_bytes_that_are_no_text_are_a_fault_of_the_file(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "contests.jsonl"
    file.write_bytes(text)
    with pytest.raises(DataError, match=r"contests\.jsonl"):
        read_contests(file)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"verdict": 1.5}, "no number from 0 to 1"),
        ({"verdict": True}, "no number from 0 to 1"),
        ({"verdict": "A"}, "no number from 0 to 1"),
        ({"one": 3}, "`one` is no text"),
    ],
)
def test_a_line_that_is_no_verdict_is_refused_with_its_number(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    line = {"prompt": "q", "one": "a", "other": "b", "verdict": 1}
    file = write_jsonl(tmp_path / "people.jsonl", [line, {**line, **changed}])
    labeller = Replay(file=str(file), sha256=digest_file(file))
    with pytest.raises(DataError, match=f"people.jsonl, line 2: .*{told}"):
        labeller.label(LabelJob([Contest("q", "a", "b")], lambda *_: None, tmp_path))


def test_equal_answers_tie_whatever_a_file_of_verdicts_holds(tmp_path: Path) -> None:
    """As by every other judge: a variant that answers as its baseline does would else count by its
    few other answers alone."""
    line = {"prompt": "q", "one": "a", "other": "b", "verdict": 1}
    file = write_jsonl(tmp_path / "people.jsonl", [line])
    contests = [Contest("q", "a", "b"), Contest("q", "a", "a"), Contest("q", "a", "c")]
    job = LabelJob(contests, lambda *_: None, tmp_path)
    won, tied, unknown = Replay(file=str(file), sha256=digest_file(file)).label(job)
    assert (won, tied) == (1.0, 0.5)
    assert isinstance(unknown, str)


def test_contests_are_read_with_their_ids(tmp_path: Path) -> None:
    file = tmp_path / "contests.jsonl"
    row: dict[str, Any] = {"prompt": "q", "one": "a\u2028b", "other": ""}
    file.write_text(json.dumps(row, ensure_ascii=False) + "\n\n", encoding="utf-8")
    assert read_contests(file) == [("1", Contest("q", "a\u2028b", ""))]
