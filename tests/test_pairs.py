"""The table of methods and objectives is current, and each pair that it says works does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Workspace

from harness import component
from harness.methods.base import Method
from harness.pairs import pairs

ROOT = Path(__file__).parents[1]
OURS = {name: [path.stem for path in (ROOT / "harness" / f"{name}s").glob("[!_]*.py")
               if path.stem != "base"] for name in ("method", "objective")}  # fmt: skip


def test_table_in_the_docs_is_current() -> None:
    # Without the tests' own members of the axes.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    printed = subprocess.run(
        [sys.executable, "-m", "harness.cli", "list", "pairs"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert printed in (ROOT / "docs" / "pairs.md").read_text(encoding="utf-8"), (
        "write it again: docs/pairs.md says how"
    )


def test_refusals_say_why() -> None:
    refused = [pair for pair in pairs() if pair.refusal]
    assert {"prompt_tuning", "prefix_tuning"} <= {pair.method for pair in refused}
    assert all(" and " in (pair.refusal or "") for pair in refused)


def _trained(workspace: Workspace, methods: list[str], objective: dict[str, Any]) -> None:
    workspace.write(
        matrix={"method": methods, "objective": [objective]},
        scorers=["exact_match"],
        base={},
    )
    outcome = workspace.run()
    reasons = {record.label: (record.error or {}).get("message") for record in outcome.failed}
    assert not reasons
    assert len([r for r in outcome.records.values() if r.kind == "train"]) == len(methods)


@pytest.mark.slow
@pytest.mark.parametrize("objective", OURS["objective"])
def test_every_pair_that_works_trains_a_few_steps(workspace: Workspace, objective: str) -> None:
    methods = [p.method for p in pairs() if p.objective == objective and not p.refusal]
    methods = [name for name in methods if name in OURS["method"]]
    options = {"max_steps": 4, "learning_rate": 1e-2, "per_device_train_batch_size": 4}
    _trained(workspace, methods, {objective: {**options, "max_length": 64}})


@pytest.mark.slow
@pytest.mark.parametrize("option", ["gradient_checkpointing", "packing"])
def test_every_method_that_carries_an_option_trains_with_it(
    workspace: Workspace, option: str
) -> None:
    declared = {name: component.find("method", name)() for name in OURS["method"]}
    methods = [n for n, m in declared.items() if isinstance(m, Method) and not m.refusal(option)]
    options = {"max_steps": 4, "learning_rate": 1e-2, "per_device_train_batch_size": 4}
    _trained(workspace, sorted(methods), {"sft": {**options, "max_length": 64, option: True}})
