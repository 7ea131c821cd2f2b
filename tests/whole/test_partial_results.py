"""What a variant has is shown, whatever else of it failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import comparison as comparing
from harness.commands import report as reports
from harness.comparison import Comparison
from harness.report import render, terminal_table
from harness.stages.generate import Generate
from harness.stages.train import Train
from tests.conftest import SFT, Workspace


def compared(workspace: Workspace) -> Comparison:
    outcome = workspace.run()
    opened = workspace.open()
    return comparing.compare(opened.plan, outcome.records, opened.store)


@pytest.fixture
def small(workspace: Workspace) -> Workspace:
    workspace.write(matrix={"method": ["lora"], "objective": [{"sft": SFT}]})
    return workspace


def fail_generating(monkeypatch: pytest.MonkeyPatch, *labels: str) -> None:
    run = Generate.run

    def failing(self: Generate, job: Any) -> Any:
        if not labels or job.spec["label"].partition(" on ")[0] in labels:
            raise MemoryError
        return run(self, job)

    monkeypatch.setattr(Generate, "run", failing)


def test_perplexities_are_shown_where_every_generation_failed(
    small: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fail_generating(monkeypatch)
    found = compared(small)
    assert [v.status for v in found.variants] == ["partial", "partial"]
    assert found.metrics() == [("general", "general")]
    row = found.row("lora-sft", "general")
    assert row.difference is not None
    told = terminal_table(found)
    assert "No variant has a result" not in told
    assert "FAILED in part lora-sft" in told
    assert "memory" in told
    names = {path.name for path in render(found, tmp_path / "report")}
    assert {"index.html", "report.md"} <= names
    assert "in part: generate of lora-sft" in (tmp_path / "report" / "report.md").read_text()


def test_variant_that_generates_is_compared_where_the_baseline_did(
    small: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_generating(monkeypatch, "zero-shot")
    found = compared(small)
    assert {v.group: v.status for v in found.variants} == {"zero-shot": "partial", "lora-sft": "ok"}
    assert found.row("lora-sft", "exact_match").verdict == "incomparable"
    assert found.row("lora-sft", "general").difference is not None
    assert [set(example.answers) for example in found.examples] == [{"lora-sft"}] * 12


def test_a_merged_variant_without_a_score_is_not_compared_with_its_unmerged_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write(
        matrix={"method": ["lora"], "objective": [{"sft": SFT}]},
        evaluate=["letters"], scorers=["exact_match"], evaluate_merged=["lora-sft"],
    )  # fmt: skip
    fail_generating(monkeypatch, "lora-sft-merged")
    found = compared(workspace)
    assert {v.group: v.status for v in found.variants}["lora-sft-merged"] == "failed"
    assert found.merged == ()
    assert found.row("lora-sft", "exact_match").difference is not None
    assert found.command == f"harness run {workspace.open().plan.file}"


def test_seeds_that_ended_are_shown_beside_one_that_failed(
    small: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Train.run

    def failing(self: Train, job: Any) -> Any:
        if self.seed == 1:
            raise MemoryError
        return run(self, job)

    monkeypatch.setattr(Train, "run", failing)
    small.write(seeds=[0, 1, 2])
    found = compared(small)
    (variant,) = [v for v in found.variants if v.trained]
    assert variant.status == "partial"
    row = found.row("lora-sft", "exact_match")
    assert row.seeds == 2
    assert row.note.startswith("1 of 3 seeds have no result here; only 2 seeds")
    assert [seed for seed, _ in row.by_seed] == [0, 2]


def test_variant_without_any_score_has_no_row(
    small: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Train, "run", lambda self, job: 1 / 0)
    found = compared(small)
    assert {v.group: v.status for v in found.variants} == {"zero-shot": "ok", "lora-sft": "failed"}
    assert {row.group for row in found.rows} == {"zero-shot"}
    assert reports.failures(small.open(), small.run().records)
