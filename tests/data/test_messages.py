"""Rows as people write them are read as they are meant, or refused with number and fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import DataError
from harness.data.cells import Unusable
from harness.data.layouts import detect, normal
from harness.data.load import Rows, load_rows
from harness.suite.data import Split
from tests.conftest import Workspace, write_jsonl

ASKED = {"role": "user", "content": "Where?"}
SAID = {"role": "assistant", "content": "There."}
CALL = {
    "id": "1",
    "type": "function",
    "function": {"name": "look", "arguments": {"place": "here", "unit": None}},
}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def load(path: Path, **fields: Any) -> Rows:
    split = Split(path=str(path), **fields)
    return load_rows(split.model_dump(), str(path), "data.x.train")


def read(*turns: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return normal({"messages": list(turns), **columns}, "messages", chat=False)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("human", "user"), ("User", "user"), ("prompter", "user"),
        ("gpt", "assistant"), ("model", "assistant"), ("bot", "assistant"), ("AI", "assistant"),
        ("developer", "system"),
        ("function", "tool"), ("ipython", "tool"), ("observation", "tool"), ("tool", "tool"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_every_known_name_of_a_speaker_is_the_role_of_chat_templates(
    name: str, role: str, keys: tuple[str, str]
) -> None:
    who, what = keys
    turn = {who: name, what: "Hm."}
    found = read(ASKED, turn, SAID)["messages"]
    assert found == [ASKED, {"role": role, "content": "Hm."}, SAID]


def test_an_unknown_role_is_refused_with_its_rows_number_and_the_fix(tmp_path: Path) -> None:
    good = {"messages": [ASKED, SAID]}
    bad = {"messages": [{"role": "narrator", "content": "Night."}, ASKED, SAID]}
    path = write_jsonl(tmp_path / "rows.jsonl", [good, bad])
    found = load(path)
    ((reason, count),) = found.dropped.items()
    assert (count, found.examples[reason][0]) == (1, 1)
    assert "'narrator'" in reason
    assert "roles: {'narrator': user}" in reason
    with pytest.raises(DataError, match="row number 1: a role is 'narrator'"):
        load(path, unusable="error")
    kept = load(path, roles={"narrator": "system"})
    assert kept.rows[1]["messages"][0] == {"role": "system", "content": "Night."}


def test_roles_of_its_own_join_a_splits_identity_only_where_there_are_some(
    workspace: Workspace,
) -> None:
    def config(**fields: Any) -> dict[str, Any]:
        workspace.tree["data"]["letters"]["train"] = {"path": "train.jsonl", **fields}
        return dict(workspace.open().plan.data["letters", "train"].config)

    assert "roles" not in config()
    assert config(roles={"narrator": "system"})["roles"] == {"narrator": "system"}


@pytest.mark.parametrize("text", ["", None])
@pytest.mark.parametrize(
    "calls",
    [
        {"tool_calls": [CALL]},
        {"tool_calls": json.dumps([CALL])},
        {"function_call": CALL["function"]},
    ],
)
def test_a_call_without_words_is_kept_and_its_tools_too(
    text: str | None, calls: dict[str, Any]
) -> None:
    turn = {"role": "assistant", "content": text, **calls}
    answer = {"role": "tool", "name": "look", "tool_call_id": "1", "content": "A wall."}
    found = read(ASKED, turn, answer, SAID, tools=TOOLS)
    call = found["messages"][1]
    assert call["content"] == ""
    assert call["tool_calls"][0]["function"] == CALL["function"]
    assert found["messages"][2] == answer
    assert found["tools"] == TOOLS


def test_a_row_that_ends_in_a_call_trains_on_it_and_is_held_against_it(tmp_path: Path) -> None:
    row = {"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}]}
    (found,) = load(write_jsonl(tmp_path / "rows.jsonl", [row])).rows
    assert json.loads(found["references"][0]) == [CALL["function"]]


def test_a_call_that_sharegpt_writes_as_text_is_a_call() -> None:
    written = {"from": "function_call", "value": json.dumps(CALL["function"])}
    row = {
        "conversations": [{"from": "human", "value": "Where?"}, written,
                          {"from": "observation", "value": "A wall."},
                          {"from": "gpt", "value": "There."}],
        "tools": json.dumps(TOOLS),
    }  # fmt: skip
    found = normal(row, str(detect(row)), chat=False)
    assert [turn["role"] for turn in found["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert found["messages"][1]["tool_calls"][0]["function"] == CALL["function"]
    assert found["tools"] == TOOLS


def test_functions_of_openais_old_format_are_tools() -> None:
    found = read(ASKED, SAID, functions=[TOOLS[0]["function"]])
    assert found["tools"] == TOOLS


def test_only_some_rows_may_have_tools(tmp_path: Path) -> None:
    rows = [{"messages": [ASKED, SAID]}, {"messages": [ASKED, SAID], "tools": TOOLS}]
    found = load(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert not found.dropped
    assert ["tools" in row for row in found.rows] == [False, True]


def test_tools_of_a_preference_are_kept() -> None:
    sides = {"chosen": [ASKED, SAID], "rejected": [ASKED, {**SAID, "content": "No."}]}
    assert normal({**sides, "tools": TOOLS}, "preference", chat=False)["tools"] == TOOLS


def test_parts_of_text_are_one_text() -> None:
    parts = [{"type": "text", "text": "Whe"}, {"type": "input_text", "text": "re"}, "?"]
    assert read({"role": "user", "content": parts}, SAID)["messages"][0] == ASKED


@pytest.mark.parametrize(
    "part", [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "image"}, {"text": 5}, 5]
)
def test_a_part_that_is_no_text_is_refused(part: Any) -> None:
    with pytest.raises(Unusable, match="a part that is no text"):
        read({"role": "user", "content": [{"type": "text", "text": "See:"}, part]}, SAID)


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"role": "assistant", "content": "", "tool_calls": ["look"]}, "`tool_calls` is no list"),
        ({"role": "assistant", "content": "", "tool_calls": [{"a": 1}]}, "`tool_calls` is no list"),
        ({"role": "assistant", "content": "", "tool_calls": "look("}, "`tool_calls` is no JSON"),
        ({"role": "function_call", "content": "look("}, "a function call is no JSON"),
        ({"role": "assistant", "content": "a", "weight": 0.5}, "`weight` is neither 0 nor 1"),
        ({"role": None, "content": "a"}, "lacks its role"),
        ({"role": "user", "content": None}, "lacks its text"),
        ({"role": "user", "content": {"a": 1}}, "is no text"),
    ],
)
def test_a_turn_that_cannot_be_meant_is_refused(turn: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        read(ASKED, turn, SAID)


@pytest.mark.parametrize("tools", ["look(", ["look"], {"a": 1}, 5])
def test_tools_that_are_none_are_refused(tools: Any) -> None:
    with pytest.raises(Unusable, match="`tools` is no"):
        read(ASKED, SAID, tools=tools)


def test_a_turn_of_weight_0_is_marked_and_one_of_weight_1_is_as_any() -> None:
    turns = [ASKED, {**SAID, "weight": 0}, ASKED, {**SAID, "weight": 1}]
    assert read(*turns)["messages"] == [ASKED, {**SAID, "weight": 0}, ASKED, SAID]
    with pytest.raises(Unusable, match="every turn of the assistant has `weight: 0`"):
        read(ASKED, {**SAID, "weight": 0})


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_what_a_turn_thought_is_kept(field: str) -> None:
    found = read(ASKED, {**SAID, field: "Hm.", "name": None})
    assert found["messages"][1] == {**SAID, field: "Hm."}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": float("nan")}, "no `text`"),
        ({"prompt": "q", "completion": float("nan")}, "no `completion`"),
        ({"instruction": "q", "output": float("nan")}, "no `output`"),
        ({"messages": [ASKED, {"role": "assistant", "content": float("nan")}]}, "lacks its text"),
        ({"prompt": "q", "chosen": float("nan"), "rejected": "a"}, "no `chosen`"),
    ],
)
def test_a_cell_that_is_not_a_number_is_no_text(
    row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    good = {name: "a" for name in row}
    good |= {"messages": [ASKED, SAID]} if "messages" in row else {}
    good |= {"rejected": "b"} if "rejected" in row else {}
    found = load(write_jsonl(tmp_path / "rows.jsonl", [good, row]))
    ((told, count),) = found.dropped.items()
    assert reason in told
    assert count == 1


def test_empty_cells_beside_the_text_are_no_text_either(tmp_path: Path) -> None:
    nan = float("nan")
    rows = [
        {"instruction": "q", "output": "a", "input": nan, "id": nan, "group": nan, "cluster": nan,
         "system": nan, "references": nan},
    ]  # fmt: skip
    (found,) = load(write_jsonl(tmp_path / "rows.jsonl", rows), chat=True).rows
    assert [turn["content"] for turn in found["messages"]] == ["q", "a"]
    assert (found["id"], found["cluster"], found["group"]) == ("0", "0", "")
    assert found["references"] == ["a"]


@pytest.mark.parametrize("empty", [None, "", float("nan")])
def test_rows_without_an_id_are_numbered(empty: Any, tmp_path: Path) -> None:
    rows = [{"id": identifier, "text": f"{i}"} for i, identifier in enumerate([empty, 2, empty, 3])]
    found = load(write_jsonl(tmp_path / "rows.jsonl", rows)).rows
    assert [row["id"] for row in found] == ["0", "2", "row 2", "3"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.txt", "rows.csv"])
def test_a_file_that_begins_with_a_mark_of_its_encoding_is_read(name: str, tmp_path: Path) -> None:
    text = {"rows.jsonl": '{"text": "a"}', "rows.json": '[{"text": "a"}]', "rows.txt": "a",
            "rows.csv": "text\na"}  # fmt: skip
    (tmp_path / name).write_text(text[name], encoding="utf-8-sig")
    assert [row["text"] for row in load(tmp_path / name).rows] == ["a"]


def test_one_turn_an_example_counts_turns_of_calls(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    answer = {"role": "tool", "content": "A wall."}
    path = write_jsonl(tmp_path / "rows.jsonl", [{"messages": [ASKED, call, answer, SAID]}])
    first, second = load(path, turns="each").rows
    assert json.loads(first["references"][0]) == [CALL["function"]]
    assert second["references"] == ["There."]
