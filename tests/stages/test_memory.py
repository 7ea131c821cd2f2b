"""Memory, as records tell it: of the training alone, one model at a time, whatever the batches."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from harness.models.files import ModelRef
from harness.stages.train import Train
from tests.conftest import DPO, SFT, Workspace, chat_rows, write_jsonl


def trained(workspace: Workspace) -> dict[str, Any]:
    outcome = workspace.run()
    assert not outcome.failed
    return {r.label: r for r in outcome.records.values() if r.kind == "train"}


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_kept_activations_are_alike_for_any_number_of_equal_micro_batches(
    workspace: Workspace, method: str
) -> None:
    row = {**chat_rows(0, 1)[0]}
    write_jsonl(workspace.folder / "train.jsonl", [{**row, "id": f"{i}"} for i in range(32)])
    steps = [{"sft": {**SFT, "max_steps": 1, "gradient_accumulation_steps": n}}
             for n in (1, 2, 8)]  # fmt: skip
    kept = []
    for objective in steps:
        workspace.write(matrix={"method": [method], "objective": [objective]}, scorers=["rouge"])
        (record,) = trained(workspace).values()
        kept.append(record.cost["state"]["activations"])
    assert kept[0] > 10_000
    assert kept[1] == pytest.approx(kept[0], rel=1e-3)
    assert kept[2] == pytest.approx(kept[0], rel=1e-3)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Models of the same training stage that are still there whenever one is loaded."""
    found: list[int] = []
    seen: list[weakref.ref[Any]] = []
    load, run = ModelRef.load, Train.run

    def loading(self: ModelRef, *arguments: Any, **options: Any) -> Any:
        found.append(sum(model() is not None for model in seen))
        model = load(self, *arguments, **options)
        seen.append(weakref.ref(model))
        return model

    def training(self: Train, job: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(ModelRef, "load", loading)
            return run(self, job)

    monkeypatch.setattr(Train, "run", training)
    return found


def test_a_training_never_has_two_models_of_its_own_at_once(
    aligned: Workspace, beside: list[int]
) -> None:
    aligned.write(
        matrix={"data": ["letters"], "method": ["full", {"lora": {"r": 4}}, "qlora"],
                "objective": [{"sft": SFT}, {"dpo": DPO}]},
        reward_model={},
    )  # fmt: skip
    for record in trained(aligned).values():
        told = {check["check"]: check["status"] for check in record.metrics["audit"]}
        assert told["the checkpoint reloads"] == "passed"
    assert len(beside) >= 3 * (2 + 3)
    assert set(beside) == {0}


def test_peak_memory_is_that_of_the_training_and_phases_are_told_apart(
    workspace: Workspace,
) -> None:
    for record in trained(workspace).values():
        peaks = record.cost["peaks"]
        assert {"load", "train", "audit", "reload"} <= peaks.keys()
        assert record.cost["peak_memory"] == peaks["train"]
        assert set(peaks["train"]) == {"host_bytes"}


def test_a_phases_peak_is_its_own() -> None:
    from harness.core.measure import Ledger

    ledger = Ledger()
    with ledger.phase("large"):
        held = bytearray(200 * 2**20)
        del held
    with ledger.phase("small"):
        pass
    large, small = (ledger.peaks[name]["host_bytes"] for name in ("large", "small"))
    assert large - small > 150 * 2**20
    assert ledger.peak()["host_bytes"] == large
