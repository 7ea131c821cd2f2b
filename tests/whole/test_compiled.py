"""A training that torch compiles (`args: {torch_compile: true}`) is a training like any other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from harness.store.stage import Record
from tests.conftest import PPO, SFT, Workspace

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, of what it traces
EAGER = {"torch_compile": True, "torch_compile_backend": "eager"}
"""Torch traces the model and compiles nothing: what breaks a trace is seen in seconds."""
WHOLE = {"torch_compile": True}
"""By inductor, which needs a C++ compiler on a CPU and takes most of a minute."""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What was traced stays with no other test."""
    import torch

    yield
    torch._dynamo.reset()


def training(workspace: Workspace, objective: dict[str, Any], method: Any) -> Record:
    """The suite's one training."""
    workspace.write(matrix={"method": [method], "objective": [objective]}, scorers=["exact_match"])
    outcome = workspace.run()
    (found,) = (r for r in outcome.records.values() if r.kind == "train")
    assert found.ok, found.error
    return found


def same_but_for_memory(workspace: Workspace, how: dict[str, Any], method: Any) -> None:
    sft = {**SFT, "max_steps": 2}  # one to trace, and one that is what the trace trains
    plain = training(workspace, {"sft": sft}, method)
    assert plain.cost["state"]["activations"] > 0
    compiled = training(workspace, {"sft": {**sft, "args": how}}, method)
    assert compiled.key != plain.key
    loss = plain.metrics["final_loss"]
    assert compiled.metrics["final_loss"] == pytest.approx(loss, rel=1e-4)
    # The compiler lays out what is kept. A sum without it would make this the cheapest of all.
    assert compiled.cost["state"] == {**plain.cost["state"], "activations": None}
    assert compiled.cost["state_bytes"] is None
    assert compiled.cost["trainable_parameters"] == plain.cost["trainable_parameters"]


@pytest.mark.slow
def test_a_traced_training_is_the_plain_one_and_its_activations_are_not_known(
    workspace: Workspace,
) -> None:
    same_but_for_memory(workspace, EAGER, {"lora": {"r": 2}})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_a_compiled_training_is_the_plain_one(workspace: Workspace) -> None:
    same_but_for_memory(workspace, WHOLE, "full")


OTHERS: dict[str, dict[str, Any]] = {
    "dpo": {**SFT, "data": "preferences", "args": EAGER},
    "orpo": {**SFT, "data": "preferences", "args": EAGER},
    "kto": {**SFT, "data": "thumbs", "args": EAGER},
    "cpt": {**SFT, "data": "general", "args": EAGER},
    "grpo": {**SFT, "max_steps": 2, "num_generations": 2, "max_new_tokens": 4, "args": EAGER},
    "ppo": PPO,  # after a reward model that is traced
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_objectives_are_traced_too(aligned: Workspace, name: str) -> None:
    reward = {**SFT, "data": "preferences", "args": EAGER}
    method, objective = {"lora": {"r": 2}}, {name: OTHERS[name]}
    aligned.write(
        matrix={"data": ["letters"], "method": [method], "objective": [objective]},
        reward_model=reward,
    )
    if name not in ("ppo", "grpo"):
        del aligned.tree["reward_model"]
    outcome = aligned.run()
    assert not outcome.failed
    trained = [record for record in outcome.records.values() if record.kind == "train"]
    assert None in [record.cost["state_bytes"] for record in trained]
