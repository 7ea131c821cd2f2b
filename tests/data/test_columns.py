"""Columns beside a row's turns are read as they are meant, or refused with the row's number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import DataError
from harness.data.layouts import detect, normal
from harness.data.load import load_rows
from harness.suite.data import Split
from tests.conftest import write_jsonl

ASKED, SAID = {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "There."}
OTHER = {"role": "assistant", "content": "Nowhere."}
KIND = {"role": "system", "content": "Be kind."}
HH = "\n\nHuman: Where?\n\nAssistant:"
ROWS: dict[str, dict[str, Any]] = {
    "messages": {"messages": [ASKED, SAID]},
    "prompt_completion": {"prompt": [ASKED], "completion": [SAID]},
    "prompt": {"prompt": [ASKED]},
    "preference": {"prompt": [ASKED], "chosen": [SAID], "rejected": [OTHER]},
    "ranked": {"prompt": [ASKED], "responses": [[SAID], [OTHER]], "ranks": [1, 2]},
    "unpaired": {"prompt": [ASKED], "completion": [SAID], "label": True},
    "sharegpt": {"conversations": [{"from": "human", "value": "Where?"},
                                   {"from": "gpt", "value": "There."}]},
    "hh_rlhf": {"chosen": f"{HH} There.", "rejected": f"{HH} Nowhere."},
}  # fmt: skip
TEXTS: dict[str, dict[str, Any]] = {
    "prompt_completion": {"prompt": "Where?", "completion": "There."},
    "prompt": {"prompt": "Where?"},
    "preference": {"prompt": "Where?", "chosen": "There.", "rejected": "Nowhere."},
    "alpaca": {"instruction": "Where?", "output": "There."},
}


def load(folder: Path, *rows: dict[str, Any], **fields: Any) -> Any:
    path = write_jsonl(folder / "rows.jsonl", list(rows))
    split = Split(path=str(path), **fields)
    return load_rows(split.model_dump(), str(path), "data.x.train")


def asked(row: dict[str, Any]) -> list[Any]:
    """The turns before the answer, of a chat in normal form."""
    return list(row["messages"][:-1] if "messages" in row else row["prompt"])


@pytest.mark.parametrize("column", ["system", "system_prompt"])
@pytest.mark.parametrize("layout", ROWS)
def test_a_system_column_is_the_system_turn_of_every_chat(layout: str, column: str) -> None:
    row = {**ROWS[layout], column: "Be kind."}
    assert detect(row) == layout
    assert asked(normal(row, layout, chat=False)) == [KIND, ASKED]
    assert asked(normal({**row, column: "  "}, layout, chat=False)) == [ASKED]


@pytest.mark.parametrize("layout", TEXTS)
def test_a_system_column_of_texts_is_their_system_turn_where_they_become_chats(layout: str) -> None:
    found = normal({**TEXTS[layout], "system": "Be kind."}, layout, chat=True)
    assert asked(found) == [KIND, ASKED]


@pytest.mark.parametrize("column", ["system", "system_prompt", "tools", "functions"])
@pytest.mark.parametrize("layout", TEXTS)
def test_texts_refuse_columns_that_chats_alone_read(
    layout: str, column: str, tmp_path: Path
) -> None:
    told = [{"name": "look"}] if column in ("tools", "functions") else "Be kind."
    good, bad = TEXTS[layout], {**TEXTS[layout], column: told}
    with pytest.raises(DataError, match=f"row number 1: `{column}` is read in chats alone"):
        load(tmp_path, good, bad, unusable="error")
    assert load(tmp_path, good, bad).dropped.total() == 1


def test_a_system_column_that_says_what_the_system_turn_says_is_one_turn(tmp_path: Path) -> None:
    chat = {"messages": [KIND, ASKED, SAID]}
    same, other = {**chat, "system": "Be kind. "}, {**chat, "system": "Be short."}
    assert normal(same, "messages", chat=False)["messages"] == [KIND, ASKED, SAID]
    with pytest.raises(DataError, match="row number 1: `system` says something else than"):
        load(tmp_path, same, other, unusable="error")
    kept = load(tmp_path, same, other, map={"messages": "{messages}", "system": ""})
    assert [row["messages"][0] for row in kept.rows] == [KIND, KIND]


def test_a_chat_that_is_renamed_keeps_its_system_column(tmp_path: Path) -> None:
    row = {"talk": [ASKED, SAID], "system": "Be kind.", "source": "a book"}
    (found,) = load(tmp_path, row, map={"messages": "{talk}"}).rows
    assert found["messages"] == [KIND, ASKED, SAID]


def test_a_prompts_second_half_is_joined_by_the_suite_or_refused(tmp_path: Path) -> None:
    row = {"prompt": "Translate:", "input": "bonjour", "completion": "hello"}
    with pytest.raises(
        DataError, match="row number 0: `input` is not read beside `prompt`"
    ) as told:
        load(tmp_path, row, unusable="error")
    assert "{prompt}\\n\\n{input}" in str(told.value)
    given = {"prompt": "{prompt}\n\n{input}", "completion": "{completion}"}
    (found,) = load(tmp_path, row, map=given).rows
    assert found["prompt"] == "Translate:\n\nbonjour"


@pytest.mark.parametrize("column", ["question", "instruction", "query", "input"])
def test_a_preference_whose_question_has_another_name_is_refused(column: str) -> None:
    row = {column: "Which colour?", "chosen": "The sky is blue.", "rejected": "The sky is red."}
    with pytest.raises(Exception, match=f'map: {{prompt: "{{{column}}}", chosen'):
        normal(row, "preference", chat=False)


@pytest.mark.parametrize("column", ["images", "videos"])
def test_what_a_model_would_not_see_is_refused(column: str) -> None:
    with pytest.raises(Exception, match=f"`{column}` is not read"):
        normal({**ROWS["messages"], column: ["a.png"]}, "messages", chat=False)
    assert normal({**ROWS["messages"], column: []}, "messages", chat=False) == ROWS["messages"]


def test_answers_that_repeat_their_prompt_are_read_without_it() -> None:
    wanted = ROWS["preference"]
    whole = {"chosen": [ASKED, SAID], "rejected": [ASKED, OTHER]}
    for prompt in ("Where?", [ASKED]):
        assert normal({"prompt": prompt, **whole}, "preference", chat=False) == wanted
    answers = {"chosen": [SAID], "rejected": [OTHER]}
    assert normal({"prompt": "Where?", **answers}, "preference", chat=False) == wanted


def test_what_answers_begin_with_alike_before_the_assistant_speaks_is_their_prompt() -> None:
    row = {"prompt": [KIND], "chosen": [ASKED, SAID], "rejected": [ASKED, OTHER]}
    found = normal(row, "preference", chat=False)
    assert found == {"prompt": [KIND, ASKED], "chosen": [SAID], "rejected": [OTHER]}
    row["rejected"] = [{"role": "user", "content": "What?"}, OTHER]
    with pytest.raises(Exception, match="does not begin with a turn of the assistant"):
        normal(row, "preference", chat=False)


def test_an_answer_without_a_turn_to_train_on_is_refused() -> None:
    row = {**ROWS["preference"], "rejected": [{**OTHER, "weight": 0}]}
    with pytest.raises(Exception, match="every turn of the assistant has `weight: 0`"):
        normal(row, "preference", chat=False)
