"""`make gpu-check`, as far as a machine without a GPU can show it."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import gpu_check

from harness.commands.session import open_suite


def test_the_demo_has_what_its_verdicts_are_held_against(tmp_path: Path) -> None:
    """A demo that has changed would fail only on a GPU, where time is dear."""
    demo = gpu_check.ROOT / "suites" / "pocket" / "demo.yaml"
    opened = open_suite(str(demo), gpu_check.DEMO_SETTINGS, tmp_path, None, None)
    with gpu_check.VERDICTS.open(encoding="utf-8", newline="") as handle:
        kept = {row["variant"] for row in csv.DictReader(handle)}
    assert kept == {path.variant.id for path in opened.plan.paths}
