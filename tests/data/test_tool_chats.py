"""Chats with tools, and turns that end in more than one way: what people's files make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from harness.data.columns import template_columns
from harness.data.layouts import normal
from harness.data.load import load_rows
from harness.data.render import encoded
from harness.data.usable import trained
from harness.inference.rewards import answered_ids
from harness.suite.data import Split
from tests.chat_templates import assistant, names, tokenizer_of, user
from tests.conftest import write_jsonl

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}]


def calls(arguments: Any) -> list[dict[str, Any]]:
    """A call as OpenAI writes it."""
    return [{"id": "c1", "type": "function",
             "function": {"name": "look", "arguments": arguments}}]  # fmt: skip


def chat(arguments: Any) -> dict[str, Any]:
    """A call, the tool's result, and the answer; a normal row."""
    turns = [
        user("How is the weather?"),
        assistant("", tool_calls=calls(arguments)),
        {"role": "tool", "name": "look", "tool_call_id": "c1", "content": "sunny"},
        assistant("It is fine."),
    ]
    return {"messages": normal({"messages": turns}, "messages", chat=False)["messages"]}


def load(path: Path, **fields: Any) -> Any:
    config = Split(path=str(path), **fields).model_dump(mode="json")
    return load_rows(config, str(path), "data.x.train")


@pytest.mark.parametrize("name", names())
def test_arguments_written_as_json_train_as_those_written_as_a_mapping(name: str) -> None:
    tokenizer = tokenizer_of(name)
    as_mapping = trained(tokenizer, chat({"place": "Rome"}))
    as_json = trained(tokenizer, chat(json.dumps({"place": "Rome"})))
    assert isinstance(as_json, str) == isinstance(as_mapping, str)
    if not isinstance(as_json, str) and not isinstance(as_mapping, str):
        assert as_json[0].trained.count(True) > 0


def test_a_user_amid_the_answers_is_never_trained_on() -> None:
    tokenizer = tokenizer_of("gptoss")  # ends a chat's last turn otherwise than its earlier ones
    completion = [assistant("one"), user("SECRET"), assistant("two")]
    found = encoded(tokenizer, {"prompt": [user("begin")], "completion": completion})
    learnt = [token for token, own in zip(found.ids, found.trained, strict=True) if own]
    text = tokenizer.decode(learnt)
    assert "SECRET" not in text
    assert "one<|end|>" in text
    assert "two<|return|>" in text


def test_a_table_file_trains_on_the_same_call_as_json_lines(tmp_path: Path) -> None:
    rows = []
    for number, arguments in enumerate(({"place": "Rome"}, {"city": "Paris"})):
        turns = [user("go"), assistant("", tool_calls=calls(arguments))]
        rows.append({"id": str(number), "messages": turns, "tools": TOOLS})
    lines = load(write_jsonl(tmp_path / "rows.jsonl", rows))
    table = pyarrow.Table.from_pylist(
        [{**row, "tools": json.dumps(row["tools"])} for row in rows]
    )  # an empty mapping has no form in Parquet
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    columns = load(tmp_path / "rows.parquet")
    assert [row["messages"] for row in columns.rows] == [row["messages"] for row in lines.rows]


def test_a_renamed_chat_keeps_its_tools(tmp_path: Path) -> None:
    row = {"conversation": [user("go"), assistant("gone")], "tools": TOOLS}
    path = write_jsonl(tmp_path / "rows.jsonl", [row])
    (found,) = load(path, map={"messages": "{conversation}"}).rows
    assert found["tools"] == TOOLS


def test_functions_that_are_no_list_are_a_row_that_is_counted(tmp_path: Path) -> None:
    good = {"messages": [user("go"), assistant("gone")]}
    path = write_jsonl(tmp_path / "rows.jsonl", [good, {**good, "functions": 7}])
    found = load(path)
    assert len(found.rows) == 1
    assert dict(found.dropped) == {"`functions` is no list of functions": 1}
    assert template_columns(good) == {}


def test_a_plain_answer_that_ended_at_once_is_rewarded_with_its_end(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ends = frozenset([tokenizer.eos_token_id])
    row = {"id": "1", "cluster": "1", "group": "", "prompt": "Say:"}
    prompt = tokenizer(text="Say:")["input_ids"]
    assert answered_ids(tokenizer, row, "", ends, cut=False) == [*prompt, tokenizer.eos_token_id]
    assert answered_ids(tokenizer, row, "", ends, cut=True) == prompt
