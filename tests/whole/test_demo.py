"""What the demo claims, held on its own results (it trains first where they are not there yet)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import comparison as compare
from harness.commands import run as runs
from harness.commands.session import open_suite
from harness.scheduling.progress import ConsoleReporter

ROOT = Path(__file__).parents[2]


def measured(*settings: str) -> compare.Comparison:
    """The demo's comparison; it is trained first where its results are not there yet."""
    suite = str(ROOT / "suites" / "pocket" / "demo.yaml")
    opened = open_suite(suite, settings, ROOT / "results" / "store", None, None)
    with open(os.devnull, "w") as nowhere:
        outcome = runs.run_stages(opened, ConsoleReporter(nowhere))
    assert not outcome.failed
    return compare.compare(opened.plan, outcome.records, opened.store)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # it may have to train the demo first
@pytest.mark.parametrize("use", ["few-shot", "zero-shot"])
def test_sft_beats_the_base_at_its_best_honest_use(use: str) -> None:
    found = measured(f"baseline={use}")
    trained = [variant.group for variant in found.variants if variant.trained]
    assert len(trained) >= 2
    for group in trained:
        for metric in ("rougeL", "exact_match"):
            row = found.row(group, metric)
            assert row.verdict == "better", row
            assert row.difference is not None
            assert row.difference.low is not None
            assert row.difference.low > 0, row


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_judge_prefers_alignment_to_its_start_as_the_worlds_truth_does() -> None:
    taxes = {tax.group: tax for tax in measured().taxes}
    for group in ("lora-dpo", "lora-ppo"):
        rows = [measure.row for measure in taxes[group].measures if not measure.row.slice]
        values = {row.metric: row.estimate.value for row in rows}
        assert values["over_start judge_preference"] > 0.5, group
        assert values["win_rate"] > 0.5, group
