"""The form of a file of verdicts, as the page on judges shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from harness.data.contests import Contest
from harness.labellers.replay import _key, _verdicts
from tests.conftest import write_jsonl

PAGE = Path(__file__).parents[2] / "docs" / "judges.md"


def shown() -> list[dict[str, Any]]:
    lines = re.findall(r"```json\n(\{.*\"verdict\".*\})\n```", PAGE.read_text(encoding="utf-8"))
    return [json.loads(line) for line in lines]


def test_lines_that_the_page_shows_are_read_for_texts_and_for_chats(tmp_path: Path) -> None:
    texts, chats = shown()
    assert isinstance(texts["prompt"], str)
    assert isinstance(chats["prompt"], list)
    known = _verdicts(write_jsonl(tmp_path / "people.jsonl", [texts, chats]))
    assert sorted(known.values()) == [0, 0.5, 0.5, 1]


def test_chat_is_found_as_lists_of_messages_alone(tmp_path: Path) -> None:
    _, chat = shown()
    known = _verdicts(write_jsonl(tmp_path / "people.jsonl", [{**chat, "verdict": 0.75}]))
    contest = Contest(chat["prompt"], chat["one"], chat["other"])
    assert known[_key(contest)] == 0.75
    assert known[_key(contest.exchanged())] == 0.25
    assert _key(Contest("Two plus two?", "Four.", "It is four.")) not in known
