"""The table of methods and objectives is current, and each pair that it says works does."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from harness.core import registry
from harness.methods.base import Method
from harness.planning.pairs import pairs
from harness.scheduling.schedule import Outcome
from tests.conftest import DPO, PPO, PTX, REWARD, SFT, Workspace

ROOT = Path(__file__).parents[2]
OURS = {name: [path.stem for path in (ROOT / "harness" / f"{name}s").glob("[!_]*.py")
               if path.stem != "base"] for name in ("method", "objective")}  # fmt: skip


def at_service(method: str) -> bool:
    """Whether a method trains at a service, and nothing here."""
    declared = cast(type[Method], registry.find("method", method))
    return declared.at_service or declared.elsewhere


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


def _trained(workspace: Workspace, methods: list[str], objective: Any) -> Outcome:
    workspace.tree["matrix"] |= {"method": methods, "objective": [objective]}
    workspace.write(scorers=["exact_match"], base={})
    outcome = workspace.run()
    reasons = {record.label: (record.error or {}).get("message") for record in outcome.failed}
    assert not reasons
    return outcome


QUICK = {"max_steps": 4, "learning_rate": 1e-2, "per_device_train_batch_size": 4, "max_length": 64}
SAMPLED = {**SFT, "num_generations": 2, "max_new_tokens": 4}
OPTIONS = {
    "dpo": DPO, "orpo": DPO, "kto": {**DPO, "data": "thumbs"}, "ppo": PPO, "ppo_ptx": PTX,
    "grpo": SAMPLED, "rloo": SAMPLED, "rlaif": {"data": "preferences", "max_new_tokens": 4,
    "samples": 2, "unfinished": "keep"},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("objective", sorted(set(OURS["objective"]) - {"reward"}))
def test_every_pair_that_works_trains_a_few_steps(aligned: Workspace, objective: str) -> None:
    methods = [p.method for p in pairs() if p.objective == objective and not p.refusal]
    methods = [name for name in methods if name in OURS["method"] and not at_service(name)]
    if objective not in ("ppo", "ppo_ptx", "grpo", "rloo", "rlaif"):
        aligned.tree.pop("reward_model")
    own = {f"sft.{name}": value for name, value in SFT.items()}
    ends = "ppo" if objective == "rlaif" else objective  # what its last stage trains with
    if ends != objective:
        own |= {f"{ends}.{name}": value for name, value in OPTIONS[ends].items()}
    if objective in OPTIONS and objective != "orpo":
        aligned.write(overrides=[{"set": own}])
    outcome = _trained(aligned, methods, {objective: OPTIONS.get(objective, QUICK)})
    trained = [r for r in outcome.records.values() if r.kind == "train"]
    last = [r for r in trained if r.config["objective"]["name"] == ends]
    assert len(last) == len(methods)
    # Each starts exactly at its reference: DPO at ln 2, KTO at 1/2, PPO at a KL of 0.
    begins = {"dpo": ("first_loss", math.log(2)), "kto": ("first_loss", 0.5),
              "ppo": ("first_kl", 0.0), "ppo_ptx": ("first_kl", 0.0)}  # fmt: skip
    if ends in begins:
        name, wanted = begins[ends]
        found = {r.label: r.metrics[name] for r in last}
        assert found == pytest.approx(dict.fromkeys(found, wanted), abs=1e-6)


@pytest.mark.slow
def test_every_method_that_works_with_reward_makes_a_reward_model(aligned: Workspace) -> None:
    methods = [p.method for p in pairs() if p.objective == "reward" and not p.refusal]
    own = {f"sft.{name}": value for name, value in SFT.items()}
    aligned.write(overrides=[{"set": own}])
    for method in methods:
        if method not in OURS["method"] or at_service(method):
            continue
        aligned.write(reward_model={**REWARD, "method": method})
        outcome = _trained(aligned, ["lora"], {"ppo": {**PPO, "value": "head"}})
        made = [r for r in outcome.records.values() if r.kind == "train"]
        found = [r for r in made if r.config["objective"]["name"] == "reward"]
        assert [r.config["method"]["name"] for r in found] == [method]


@pytest.mark.slow
@pytest.mark.parametrize("option", ["gradient_checkpointing", "packing"])
def test_every_method_that_carries_an_option_trains_with_it(
    workspace: Workspace, option: str
) -> None:
    here = [name for name in OURS["method"] if not at_service(name)]
    declared = {name: registry.find("method", name)() for name in here}
    methods = [n for n, m in declared.items() if isinstance(m, Method) and not m.refusal(option)]
    _trained(workspace, sorted(methods), {"sft": {**QUICK, option: True}})
