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


@pytest.mark.slow
@pytest.mark.timeout(1200)  # it may have to train the demo first
@pytest.mark.parametrize("use", ["few-shot", "zero-shot"])
def test_sft_beats_the_base_at_its_best_honest_use(use: str) -> None:
    suite = str(ROOT / "suites" / "pocket" / "demo.yaml")
    store = ROOT / "results" / "store"
    opened = open_suite(suite, (f"baseline={use}",), store, None, None)
    with open(os.devnull, "w") as nowhere:
        outcome = runs.run_stages(opened, ConsoleReporter(nowhere))
    assert not outcome.failed
    found = compare.compare(opened.plan, outcome.records, opened.store)
    trained = [variant.group for variant in found.variants if variant.trained]
    assert len(trained) >= 2
    for group in trained:
        for metric in ("rougeL", "exact_match"):
            row = found.row(group, metric)
            assert row.verdict == "better", row
            assert row.difference is not None
            assert row.difference.low is not None
            assert row.difference.low > 0, row
