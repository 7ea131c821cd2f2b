"""A report that promises no examples has none, wherever else they are quoted or were left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.commands import report as reports
from harness.comparison.result import Example
from harness.report import examples as showing
from harness.report import render
from harness.report.plots import figures
from harness.report.privacy import without_examples
from harness.store.stage import Record
from tests.comparisons import comparison, variant

PROMPT, REFERENCE = "Which heron nested here?", "The grey heron nested."
FIRST, SECOND = "A white heron, I believe.", "No heron whatsoever nested."


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "drawings", lambda _: [])
    monkeypatch.setattr(figures, "ordered", lambda *_: ([], 0))


def quoting(text: str) -> Any:
    """A comparison whose example is quoted by all that may quote it."""
    example = Example(
        id="1", evaluation="tasks", group="g", prompt=PROMPT, references=(REFERENCE,),
        answers={"full-sft": FIRST, "lora-sft": SECOND}, scores={},
    )  # fmt: skip
    made, quote = comparison(examples=(example,)), f"as in '{text}'"
    failed = variant("quoted", status="failed", reasons=(quote,))
    audit = ({"check": "c", "status": "failed", "detail": quote},)
    audited = replace(made.variants[1], audit=audit)
    return replace(
        made, notes=(quote,), suite_text=quote, description=quote, command=f"run '{text}'",
        variants=(made.variants[0], audited, *made.variants[2:], failed),
    )  # fmt: skip


@pytest.mark.parametrize("text", [PROMPT, REFERENCE, FIRST, SECOND])
def test_no_text_of_an_example_is_written_anywhere(tmp_path: Path, text: str) -> None:
    for path in render(quoting(text), tmp_path, examples=False):
        assert text.encode() not in path.read_bytes(), path.name
    assert text in (render(quoting(text), tmp_path)[0].parent / "report.md").read_text()


def test_comparison_without_examples_holds_none() -> None:
    assert without_examples(quoting(PROMPT)).examples == ()


def test_examples_of_an_earlier_report_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "PAGE_BYTES", 10)
    render(comparison(), tmp_path)
    assert (tmp_path / showing.FILE).exists()
    render(comparison(), tmp_path, examples=False)
    assert not (tmp_path / showing.FILE).exists()


@pytest.mark.parametrize("examples", [True, False])
def test_records_without_examples_keep_no_message_of_a_failure(
    tmp_path: Path, examples: bool
) -> None:
    error = {"reason": "data", "message": f"row 3: {PROMPT}", "trace": PROMPT}
    failed = Record(key="k", kind="train", label="l", status="failed", config={}, error=error)
    opened: Any = SimpleNamespace(plan=SimpleNamespace(stages=lambda: [SimpleNamespace(key="k")]))
    file = tmp_path / "records.jsonl"
    reports.write_records(opened, {"k": failed}, file, examples=examples)
    assert json.loads(file.read_text())["error"]["reason"] == "data"
    assert (PROMPT in file.read_text()) is examples
