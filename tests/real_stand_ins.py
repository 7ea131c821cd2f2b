"""Small files in the place of the real data sets: plans read their first rows."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import yaml


def _stand_in(number: int) -> dict[str, Any]:
    """The columns of all real data sets, by the last part of the file's name."""
    said = {"from": "gpt", "value": f"word {number}"}
    asked = f"\n\nHuman: say {number}\n\nAssistant:"
    turns = [{"role": "user", "content": "say"}, {"role": "assistant", "content": f"{number}"}]
    return {
        "alpaca_en_demo.json": {"instruction": f"say {number}", "input": "", "output": "word"},
        "dialogsum.dev.jsonl": {"dialogue": f"#1#: say {number}", "summary": "a word is said"},
        "dpo_en_demo.json": {
            "conversations": [{"from": "human", "value": f"say {number}"}],
            "chosen": said, "rejected": {**said, "value": "no"},
        },
        "harmless-base-test.jsonl.gz": {"chosen": f"{asked} yes", "rejected": f"{asked} no"},
        "kto_en_demo.json": {"messages": turns, "label": number % 2 == 0},
        "stories.jsonl": {"text": f"Once there were {number} words."},
        "test.jsonl": {"question": f"{number} + 1?", "answer": f"#### {number + 1}"},
        "train.jsonl": {"question": f"{number} + 2?", "answer": f"#### {number + 2}"},
    }  # fmt: skip


_ROWS = {"stories.jsonl": 5, "harmless-base-test.jsonl.gz": 2_312}
_SEPARATORS = {"input.txt": "\n\n", "test.txt": "\n \n"}


def stand_ins(folder: Path, trees: dict[str, dict[str, Any]]) -> None:
    """Small files of the same columns where the suites of real data look for theirs, as plans read
    the first rows; models are empty files."""
    rows = [_stand_in(number) for number in range(2_312)]
    for place in re.findall(r"\$\{HARNESS_REAL_DATA\}/([\w./-]+)", yaml.safe_dump(trees)):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name in _SEPARATORS:
            lines = (f"Line {number} of a text." for number in range(8_000))
            path.write_text(_SEPARATORS[path.name].join(lines), encoding="utf-8")
        elif path.name in rows[0]:
            named = [row[path.name] for row in rows[: _ROWS.get(path.name, 1_000)]]
            lines = (json.dumps(row) + "\n" for row in named)
            text = json.dumps(named) if path.suffix == ".json" else "".join(lines)
            packed = gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode()
            path.write_bytes(packed)
        else:
            path.touch()
    os.environ["HARNESS_REAL_DATA"] = str(folder)
