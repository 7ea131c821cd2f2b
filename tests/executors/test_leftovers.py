"""What a stage held in memory is free when it has ended, however it ended."""

from __future__ import annotations

import gc
import io
import json
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import toy_executor

from harness import worker
from harness.executors.base import Finished, Session
from harness.models.files import ModelRef
from harness.objectives._trl.memory import FirstStep
from tests.conftest import DPO, PPO, REWARD, SFT, Workspace


class Served(Session):
    """A worker's own loop in this process; a stage's folder goes in as its line."""

    def __init__(self) -> None:
        self.done: list[Finished] = []
        self.numbers: list[int] = []
        """In live tensors, after each stage."""

    def submit(self, folder: Any, resources: Any) -> str:
        told = io.StringIO()
        worker.serve(io.StringIO(f"{folder}\n"), told)
        end = json.loads(told.getvalue().splitlines()[-1])
        self.numbers.append(live_numbers())
        self.done.append(Finished(str(folder), end["error"]))
        return str(folder)

    def wait(self, timeout: float) -> Any:
        done, self.done = self.done, []
        return done

    def close(self) -> None:
        pass


def live_numbers() -> int:
    """Numbers in tensors that Python still holds."""
    import torch

    kinds = (torch.Tensor, torch.nn.Parameter)
    return sum(found.numel() for found in gc.get_objects() if type(found) in kinds)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[Any]]]:
    """Weak references to every model that is loaded."""
    seen: list[weakref.ref[Any]] = []
    load = ModelRef.load

    def watched(self: ModelRef, *arguments: Any, **options: Any) -> Any:
        model = load(self, *arguments, **options)
        seen.append(weakref.ref(model))
        return model

    monkeypatch.setattr(ModelRef, "load", watched)
    yield seen
    gc.unfreeze()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """Suites of this test run their stages through a worker's loop."""
    made = Served()
    monkeypatch.setattr(toy_executor.Inline, "start", lambda self, log: made)
    return made


def small(aligned: Workspace, method: Any, objectives: list[Any]) -> None:
    aligned.write(
        matrix={"data": ["letters"], "method": [method], "objective": objectives},
        scorers=["exact_match", {"perplexity": {"data": "general", "label": "general"}}],
        reward_model=REWARD if "ppo" in objectives[-1] else {},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "objective"),
    [({"lora": {"r": 4}}, {"ppo": PPO}),
     pytest.param("full", {"dpo": DPO}, marks=pytest.mark.slow),
     pytest.param({"lora": {"r": 4}}, {"dpo": DPO}, marks=pytest.mark.slow),
     pytest.param("full", {"ppo": PPO}, marks=pytest.mark.slow)],
    ids=["lora-ppo", "full-dpo", "lora-dpo", "full-ppo"],
)  # fmt: skip
def test_no_model_outlives_its_stage(
    aligned: Workspace, served: Served, models: list[weakref.ref[Any]], method: Any,
    objective: dict[str, Any],
) -> None:  # fmt: skip
    small(aligned, method, [{"sft": SFT}, objective])
    outcome = aligned.run()
    assert not outcome.failed
    assert len(models) > 6
    assert not [model() for model in models if model() is not None]
    assert len(set(served.numbers)) <= 3, served.numbers


def test_no_model_outlives_a_stage_that_ran_out_of_memory(
    workspace: Workspace, served: Served, models: list[weakref.ref[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import torch

    def exhausted(self: Any, *_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(FirstStep, "on_pre_optimizer_step", exhausted)
    outcome = workspace.run()
    assert {(r.kind, (r.error or {})["reason"]) for r in outcome.failed} >= {
        ("train", "out of memory")
    }
    assert models
    assert not [model() for model in models if model() is not None]


@pytest.mark.parametrize(
    "seeds", [3, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])]
)
def test_many_stages_leave_no_more_than_a_few(
    workspace: Workspace, served: Served, seeds: int
) -> None:
    objective = {"sft": {**SFT, "max_steps": 1}}
    workspace.write(
        matrix={"method": [{"lora": {"r": 2}}], "objective": [objective]}, seeds=list(range(seeds))
    )
    assert not workspace.run().failed
    assert len(served.numbers) > 4 * seeds
    first = max(served.numbers[: len(served.numbers) // 2])
    assert max(served.numbers) <= first, served.numbers
