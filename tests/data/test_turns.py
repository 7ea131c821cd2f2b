"""Conversations train on every turn of the assistant, and are asked turn by turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.commands import data as data_view
from harness.core.errors import DataError, HarnessError
from harness.data.contamination import contamination
from harness.data.load import Rows, load_rows
from harness.data.turns import by_turn, family_of
from harness.scorers.base import Prediction
from harness.scorers.refusal import Refusal
from harness.store.score_table import ScoreTable
from harness.suite.data import Split
from tests.conftest import SFT, Workspace, write_jsonl

Chat = list[dict[str, str]]


def chat(*said: str) -> Chat:
    """Turns of a user and an assistant in turn."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


TALKS = [
    {"id": "talk-0", "task": "greet", "messages": chat("a?", "aa", "b?", "bbb", "c?", "c")},
    {"id": "talk-1", "task": "greet", "messages": chat("d?", "dd"), "references": ["dd", "d"]},
]


def load(path: Path, **fields: Any) -> Rows:
    split = Split(path=str(path), **fields)
    return load_rows(split.model_dump(), str(path), "data.talks.test")


def asked_turn_by_turn(workspace: Workspace, turns: str = "each", **changes: Any) -> Workspace:
    """The tiny suite with the conversations as a second evaluation."""
    write_jsonl(workspace.folder / "talks.jsonl", TALKS)
    data = {**workspace.tree["data"], "talks": {"test": {"path": "talks.jsonl", "turns": turns}}}
    workspace.write(
        **{"data": data, "evaluate": ["letters", "talks"], "base": {"zero-shot": {}}, "matrix": {},
           "scorers": ["rouge", {"perplexity": {"data": "talks"}}], **changes}
    )  # fmt: skip
    return workspace


def test_each_turn_is_an_example_after_the_true_turns_before_it(tmp_path: Path) -> None:
    found = load(write_jsonl(tmp_path / "talks.jsonl", TALKS), turns="each")
    assert (found.layout, found.conversations) == ("messages", 2)
    first, second = TALKS[0]["messages"], TALKS[1]["messages"]
    assert found.rows == [
        {"id": "talk-0#1", "cluster": "talk-0", "group": "greet", "messages": first[:2],
         "references": ["aa"]},
        {"id": "talk-0#2", "cluster": "talk-0", "group": "greet", "messages": first[:4],
         "references": ["bbb"]},
        {"id": "talk-0#3", "cluster": "talk-0", "group": "greet", "messages": first,
         "references": ["c"]},
        {"id": "talk-1#1", "cluster": "talk-1", "group": "greet", "messages": second,
         "references": ["dd", "d"]},
    ]  # fmt: skip


def test_limit_counts_conversations_and_a_given_cluster_stays(tmp_path: Path) -> None:
    talks = [{**talk, "cluster": "one family"} for talk in TALKS]
    found = load(write_jsonl(tmp_path / "talks.jsonl", talks), turns="each", limit=1)
    assert [row["id"] for row in found.rows] == ["talk-0#1", "talk-0#2", "talk-0#3"]
    assert {row["cluster"] for row in found.rows} == {"one family"}


def test_number_of_the_turn_joins_the_group_where_asked(tmp_path: Path) -> None:
    talks = [TALKS[0], {"id": "bare", "messages": chat("x?", "y", "z?", "z")}]
    found = load(write_jsonl(tmp_path / "talks.jsonl", talks), turns="numbered")
    groups = [row["group"] for row in found.rows]
    assert groups == ["greet, turn 1", "greet, turn 2", "greet, turn 3", "turn 1", "turn 2"]
    assert [family_of(group) for group in groups] == ["greet"] * 3 + ["", ""]


def test_turns_that_say_nothing_or_answer_nobody_are_counted_and_keep_their_numbers(
    tmp_path: Path,
) -> None:
    opening = {"role": "assistant", "content": "hello"}
    rules = {"role": "system", "content": "be kind"}
    talk = {"id": "t", "messages": [rules, opening, *chat("a?", " ", "b?", "b")]}
    found = load(write_jsonl(tmp_path / "talks.jsonl", [talk]), turns="each")
    assert [row["id"] for row in found.rows] == ["t#3"]
    assert found.silent == 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["system", "user", "assistant"]), max_size=8))
def test_last_example_is_the_conversation_as_it_was(roles: list[str]) -> None:
    """And every other is a beginning of it that ends with the assistant."""
    messages = [{"role": r, "content": f"{i}"} for i, r in enumerate([*roles, "assistant"])]
    row = {"id": "t", "cluster": "t", "group": "g", "messages": messages, "references": ["r"]}
    *before, last = by_turn(row, numbered=False)
    assert last["messages"] == messages
    assert last["references"] == ["r"]
    assert len({example["id"] for example in [*before, last]}) == len(before) + 1
    for example in before:
        assert example["messages"] == messages[: len(example["messages"])]
        assert example["messages"][-1] == {"role": "assistant", "content": example["references"][0]}


def test_rows_that_are_no_conversations_are_refused_with_their_layout(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(DataError, match="needs conversations, and these rows are prompt_comp"):
        load(path, turns="each")


@pytest.mark.parametrize("name", ["train", "validation"])
def test_training_rows_are_read_whole_and_the_error_says_why(
    workspace: Workspace, name: str
) -> None:
    given_ = {"test": "test.jsonl", "train": "train.jsonl"}
    given_ = {**given_, name: {"path": "train.jsonl", "turns": "each"}}
    workspace.write(data={**workspace.tree["data"], "letters": given_})
    with pytest.raises(HarnessError) as raised:
        workspace.open()
    for words in ("data.letters", f"the {name} rows", "every turn of the assistant", "`test:`"):
        assert words in str(raised.value)


def test_choice_is_part_of_the_datas_identity_only_where_it_is_made(workspace: Workspace) -> None:
    def stage(turns: dict[str, str]) -> Any:
        entry = {"train": "train.jsonl", "test": {"path": "test.jsonl", **turns}}
        workspace.write(data={**workspace.tree["data"], "letters": entry})
        return workspace.open().plan.data["letters", "test"]

    plain = stage({})
    assert stage({"turns": "last"}).key == plain.key
    assert "turns" not in plain.config
    assert len({stage({"turns": turns}).key for turns in ("last", "each", "numbered")}) == 3


def test_answers_and_likelihoods_are_of_each_turn_and_whole_conversations_are_drawn(
    workspace: Workspace,
) -> None:
    outcome = asked_turn_by_turn(workspace).run()
    assert not outcome.failed
    (path,) = workspace.open().plan.paths
    answers = path.generate["talks"].path(workspace.store) / "predictions.jsonl"
    lines = [json.loads(text) for text in answers.read_text().splitlines()]
    ids = ["talk-0#1", "talk-0#2", "talk-0#3", "talk-1#1"]
    assert [line["id"] for line in lines] == ids
    assert lines[1]["prompt"] == "user: a?\nassistant: aa\nuser: b?"
    assert [line["references"] for line in lines] == [["aa"], ["bbb"], ["c"], ["dd", "d"]]
    tables = {s.scorer: ScoreTable(s.stage.path(workspace.store)).read(
        ["example_id", "cluster", *(["tokens"] if s.scorer == "perplexity" else [])]).to_pydict()
        for s in path.scores if s.evaluation == "talks"}  # fmt: skip
    for table in tables.values():
        assert table["example_id"] == ids
        assert table["cluster"] == ["talk-0"] * 3 + ["talk-1"]
    assert tables["perplexity"]["tokens"] == [3, 4, 2, 3]  # a letter each, and the end token


def test_shots_of_a_numbered_turn_are_of_its_family(workspace: Workspace) -> None:
    write_jsonl(workspace.folder / "train.jsonl", TALKS)
    outcome = asked_turn_by_turn(
        workspace, "numbered", base={"few": {"num_fewshot": 1}}, evaluate=["talks"],
        data={"talks": {"train": "train.jsonl", "test": {"path": "talks.jsonl",
                                                          "turns": "numbered"}}},
        scorers=["rouge"],
    ).run()  # fmt: skip
    assert not outcome.failed
    (path,) = workspace.open().plan.paths
    assert outcome.records[path.generate["talks"].key].metrics["mean_shots"] == 1


def test_family_of_a_numbered_turn_is_refused_like_any_other() -> None:
    given_ = {"harmful, turn 1": "Sorry.", "harmful, turn 2": "ok", "benign, turn 1": "ok"}
    said = [Prediction(group, "c", group, "", text, ()) for group, text in given_.items()]
    due = [row["due"] for row in Refusal().score_all(said)]
    assert due == [1, 1, 0]


def test_preview_shows_what_is_asked_turn_by_turn(workspace: Workspace) -> None:
    asked_turn_by_turn(workspace)
    text = data_view.show(workspace.open(), "talks", 2, color=False)
    assert "data.talks.test is asked turn by turn: 2 conversations, 4 turns" in text
    assert "row talk-0#2 (greet), in the conversation talk-0" in text
    assert "  assistant: aa\n  user: b?\n  asked for: bbb" in text
    assert "talk-0#3" not in text


def test_turn_that_stands_within_a_training_conversation_is_an_exact_copy() -> None:
    """Not only its last one; the same words after other turns are another example."""
    said = chat("a?", "aa", "b?", "bb", "c?", "cc")
    train = [{"id": "t", "messages": said}]
    talk = {"id": "d", "cluster": "d", "group": "", "references": ["other"],
            "messages": chat("a?", "AA", "b?", "bb", "c?", "other")}  # fmt: skip
    test = list(by_turn(talk, numbered=False))
    found = contamination(train, test, 13)
    assert found["exact_ids"] == ["d#1", "d#2"]
    assert contamination(train, [{"id": "e", "messages": chat("b?", "bb")}], 13)["exact"] == 0
    prompted = [{"id": "p", "prompt": said[:5], "completion": said[5:]}]
    assert contamination(prompted, test, 13)["exact_ids"] == ["d#1", "d#2"]


def test_sft_trains_on_every_turn_of_the_assistant_and_nothing_else(workspace: Workspace) -> None:
    """The tokens in the loss are exactly the assistant's turns, each with its end token."""
    write_jsonl(workspace.folder / "train.jsonl", TALKS)
    workspace.write(matrix={"method": ["full"], "objective": [{"sft": SFT}]}, base={})
    data_view.show(workspace.open(), "letters", 2, color=False)
    (folder,) = {path.parent for path in workspace.store.glob("*/*/preview.json")}
    shown = json.loads((folder / "preview.json").read_text())["sequences"]
    learnt = ["".join(run["text"] for run in row["runs"] if run["loss"]) for row in shown]
    assert learnt == ["aa<|end|>bbb<|end|>c<|end|>", "dd<|end|>"]
