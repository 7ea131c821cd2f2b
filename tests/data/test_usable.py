"""Rows that a chat template would write otherwise than they are meant are told, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trl
from transformers import AutoTokenizer

from harness import comparison as compare
from harness.data.usable import unrenderable
from tests.conftest import Workspace, write_jsonl

PLAIN = (
    "{% for m in messages %}{% if m['role'] in ('user', 'assistant', 'system') %}"
    "{{ m['role'] }}: {{ m['content'] | trim }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""Writes the three roles it knows, and drops others without a word."""
STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}"
    "{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
)
THINKING = (
    "{% for m in messages %}{{ m['role'] }}: "
    "{{ m['content'].split('</think>')[-1] if not loop.last else m['content'] }}\n{% endfor %}"
)
SYSTEM = {"role": "system", "content": "Be short."}
ASKED = {"role": "user", "content": "Where?"}
SAID = {"role": "assistant", "content": "There."}
TOOL = {"role": "tool", "content": "A wall."}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {"a": 1}}}],
}


def tokenizer_with(template: str, folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "turns", "reason"),
    [
        (PLAIN, [SYSTEM, ASKED, SAID], None),
        (PLAIN, [ASKED, TOOL, ASKED, SAID], "leaves out a turn of role tool"),
        (PLAIN, [ASKED, CALL, ASKED, SAID], "leaves out a turn of role assistant"),
        (PLAIN, [ASKED, {**TOOL, "content": "There."}, ASKED, SAID], "leaves out a turn of role"),
        (STRICT, [ASKED, SAID, ASKED, SAID], None),
        (STRICT, [SYSTEM, ASKED, SAID], "refuses it: System role not supported"),
        (STRICT, [ASKED, ASKED, SAID], "refuses it: Roles must alternate"),
        (THINKING, [ASKED, {**SAID, "content": "<think>Hm.</think> No."}, ASKED, SAID], None),
    ],
)
def test_a_row_that_a_template_writes_otherwise_is_told(
    template: str, turns: list[Any], reason: str | None, tiny_model: Path
) -> None:
    tokenizer = tokenizer_with(template, tiny_model)
    for row in ({"messages": turns}, {"prompt": turns[:-1], "completion": turns[-1:]}):
        found = unrenderable(tokenizer, row)
        assert (found is None) == (reason is None)
        assert (reason or "") in (found or "")


def test_a_dropped_turn_is_told_in_every_row_of_a_shape(tiny_model: Path) -> None:
    tokenizer = tokenizer_with(PLAIN, tiny_model)
    for word in ("a", "b", "a"):
        turns = [ASKED, {**TOOL, "content": word}, ASKED, {**SAID, "content": word}]
        assert unrenderable(tokenizer, {"messages": turns}) is not None


@pytest.mark.parametrize("name", ["rejected", "responses"])
def test_every_answer_of_a_row_must_be_written(name: str, tiny_model: Path) -> None:
    tokenizer = tokenizer_with(PLAIN, tiny_model)
    bad = [TOOL, SAID]
    row = {
        "rejected": {"prompt": [ASKED], "chosen": [SAID], "rejected": bad},
        "responses": {"prompt": [ASKED], "responses": [[SAID], bad], "ranks": [1, 2]},
    }[name]
    assert "role tool" in str(unrenderable(tokenizer, row))


def test_rows_of_text_and_models_without_a_template_need_none(tiny_model: Path) -> None:
    tokenizer = tokenizer_with(STRICT, tiny_model)
    assert unrenderable(tokenizer, {"text": "a"}) is None
    assert unrenderable(tokenizer, {"prompt": "a", "completion": "b"}) is None
    tokenizer.chat_template = None
    assert unrenderable(tokenizer, {"messages": [SYSTEM, ASKED, SAID]}) is None


OF_IMAGES = {"idefics3", "llava_next", "smolvlm"}
"""They write content that is a list of parts, and of a string nothing."""
TEMPLATES = sorted(
    path for path in (Path(trl.__file__).parent / "chat_templates").glob("*.jinja")
    if not path.stem.endswith("_training")
)  # fmt: skip


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_todays_templates_write_a_plain_chat_or_are_told(path: Path, tiny_model: Path) -> None:
    tokenizer = tokenizer_with(path.read_text(encoding="utf-8"), tiny_model)
    turns = [ASKED, SAID, {**ASKED, "content": "Why?"}, {**SAID, "content": "So."}]
    found = [unrenderable(tokenizer, {"messages": turns[:count]}) for count in (2, 4)]
    assert [reason is not None for reason in found] == [path.stem in OF_IMAGES] * 2


def lines(count: int, bad: int) -> list[dict[str, Any]]:
    """Chats of which the first `bad` begin with a system turn."""
    turns = [[ASKED, {**SAID, "content": "ab"[i % 2] * 3}] for i in range(count)]
    return [
        {"id": f"row-{i}", "messages": [SYSTEM, *chat] if i < bad else chat}
        for i, chat in enumerate(turns)
    ]


def test_rows_that_a_template_refuses_are_left_out_of_training_and_scoring_and_counted(
    workspace: Workspace,
) -> None:
    template = workspace.folder / "strict.jinja"
    template.write_text(STRICT + "{% if add_generation_prompt %}assistant: {% endif %}")
    write_jsonl(workspace.folder / "train.jsonl", lines(12, bad=3))
    write_jsonl(workspace.folder / "test.jsonl", lines(4, bad=1))
    path = workspace.tree["models"]["tiny"]
    workspace.tree["models"] = {"tiny": {"path": path, "chat_template": str(template)}}
    workspace.tree["matrix"]["method"] = ["lora"]
    workspace.tree["scorers"] = ["exact_match", {"perplexity": {"data": "letters"}}]
    outcome = workspace.run()
    opened = workspace.open()
    assert not outcome.failed
    stages = [stage for stage in opened.plan.stages() if stage.key in outcome.records]
    kinds = {stage.kind: outcome.records[stage.key].metrics for stage in stages
             if stage.config.get("scorer", {}).get("name") != "exact_match"}  # fmt: skip
    refused = "the chat template refuses it: System role not supported"
    assert kinds["train"]["rows"]["unusable"] == {refused: 3}
    assert (kinds["train"]["rows"]["given"], kinds["train"]["rows"]["trained_on"]) == (12, 9)
    assert "unusable" not in kinds["score"]  # no variant's model is asked the row
    assert kinds["score"]["rows"] == 3
    asked = [outcome.records[s.key].metrics for s in stages if s.kind == "generate"]
    assert [(metrics["rows"], metrics["left_out"]) for metrics in asked] == [(3, 1)] * 2
    notes = compare.compare(opened.plan, outcome.records, opened.store).notes
    told = [
        note for note in notes if note.startswith("data.letters.test: 1 of 4 rows are left out")
    ]
    assert len(told) == 1
