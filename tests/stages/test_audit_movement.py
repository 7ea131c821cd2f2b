"""What moved is held against what the steps up to the kept checkpoint could move, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.objectives._trl.keep_best import KeepBest
from harness.objectives._trl.movement import Watch, elements
from harness.objectives.base import Evidence
from harness.stages._audit_movement import moved
from tests.conftest import Workspace, chat_rows, write_jsonl

MOVED, ROUNDING = "training moved every trainable tensor", "no step was lost to rounding"


def audit_of(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Check -> finding, of the one training; none may have failed."""
    outcome = workspace.run()
    assert not outcome.failed, [record.error for record in outcome.failed]
    (record,) = [r for r in outcome.records.values() if r.kind == "train"]
    return {check["check"]: check for check in record.metrics["audit"]}


def train(workspace: Workspace, method: Any, **options: Any) -> None:
    """A suite of one training, scored by nothing."""
    write_jsonl(workspace.folder / "validation.jsonl", chat_rows(50, 4))
    letters = {"train": "train.jsonl", "test": "test.jsonl", "validation": "validation.jsonl"}
    sft = {"max_steps": 6, "per_device_train_batch_size": 4, "max_length": 64, **options}
    workspace.write(
        data={"letters": letters}, matrix={"method": [method], "objective": [{"sft": sft}]},
        base={}, scorers=["exact_match"],
    )  # fmt: skip


@pytest.mark.parametrize(
    "method", [{"lora": {"r": 4}}, {"bottleneck": {}}], ids=["lora", "bottleneck"]
)
def test_the_checkpoint_of_the_first_step_is_judged_by_that_step(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    """What passes through zeros has not moved yet, although it did later."""
    monkeypatch.setattr(KeepBest, "best", property(lambda self: min(self.seen)))
    train(workspace, method, learning_rate=1e-3, keep="best", eval_steps=1)
    found = audit_of(workspace)
    assert found[MOVED]["status"] == "passed"
    assert "could not: no gradient had come to them" in found[MOVED]["detail"]
    assert found[ROUNDING]["status"] == "passed"


@pytest.mark.parametrize(
    "options",
    [{"optim": "sgd", "learning_rate": 1e-6}, {"adam_epsilon": 1e3, "learning_rate": 1e-3}],
    ids=["sgd", "a large epsilon"],
)
def test_tensors_that_no_step_could_move_are_no_fault(
    workspace: Workspace, options: dict[str, Any]
) -> None:
    train(workspace, "full", **options)
    found = audit_of(workspace)
    assert found[MOVED]["status"] == "passed"
    assert "could not: every step was smaller" in found[MOVED]["detail"]


def test_steps_that_cannot_be_told_skip_the_check(workspace: Workspace) -> None:
    train(workspace, "full", optim="rmsprop", learning_rate=1e-9)
    found = audit_of(workspace)
    assert found[MOVED]["status"] == "skipped"
    assert "cannot be told" in found[MOVED]["detail"]


def test_a_training_that_rounding_undoes_is_told_what_happened_and_the_fix(
    workspace: Workspace, tiny_model: Path
) -> None:
    """(IA)3's factors begin at 1, where bfloat16 feels no step under 0.004."""
    workspace.write(models={"tiny": {"path": str(tiny_model), "dtype": "bfloat16"}})
    train(workspace, "ia3", learning_rate=1e-5)
    (failed,) = [r for r in workspace.run().failed if r.kind == "train"]
    message = (failed.error or {})["message"]
    assert "the trained model differs from its base: largest logit change 0" in message
    assert "less than the precision of bfloat16, in which the model is scored" in message
    assert "raise learning_rate or the number of steps, or set `dtype: float32`" in message


@pytest.mark.parametrize(("share", "status"), [(14, "failed"), (60, "failed"), (96, "passed")])
def test_a_tenth_that_stood_still_is_too_many(share: int, status: str) -> None:
    before, due = {"w": torch.zeros(100)}, {"w": torch.ones(100, dtype=torch.bool)}
    state = {"w": (torch.arange(100) < share).float()}
    assert elements(before, state, due)["status"] == status


def watched(optimizer: Any, *rates: float) -> Watch:
    """A tensor of ones and a gradient of ones for each step, of these learning rates."""
    parameter = torch.nn.Parameter(torch.ones(64))
    made, watch = optimizer([parameter]), Watch({"w": parameter}, {})
    for number, rate in enumerate(rates, 1):
        made.param_groups[0]["lr"] = rate
        parameter.grad = torch.ones(64)
        watch.look(made, number)
    return watch


def evidence_of(watch: Watch) -> Evidence:
    return Evidence(
        reached=watch.reached, dues=watch.dues, untold=frozenset(watch.untold),
        behind_gates=watch.behind_gates, without_gradient=watch.without_gradient,
    )  # fmt: skip


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_what_is_due_is_due_from_the_step_that_is_large_enough(optimizer: Any) -> None:
    found = evidence_of(watched(optimizer, 0.0, 1e-8, 1e-3))
    assert [step for step, _ in found.dues["w"]] == [3]
    for step, status in ((1, "passed"), (2, "passed"), (3, "failed")):
        still = {"w": "as it was", "other": "was"}
        told = moved(still, {"w": "as it was", "other": "is"}, found.as_of(step))
        assert told["status"] == status


def test_a_tensor_that_the_optimizer_forgot_is_due_at_once() -> None:
    parameter, other = torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.ones(4))
    parameter.grad = torch.full((4,), 1e-30)
    watch = Watch({"w": parameter}, {})
    watch.look(torch.optim.Adafactor([other]))
    assert list(watch.dues) == ["w"]


def test_an_optimizer_of_another_kind_is_not_guessed_at() -> None:
    watch = watched(torch.optim.RMSprop, 1e-3)
    assert (watch.dues, watch.untold) == ({}, {"w"})


def test_where_nothing_moved_no_reason_excuses_it() -> None:
    found = evidence_of(watched(torch.optim.AdamW, 0.0))
    told = moved({"w": "as it was"}, {"w": "as it was"}, found)
    assert told["status"] == "failed"
    assert "a higher learning_rate" in told["detail"]


# --- float16, whose loss is scaled ----------------------------------------------------------------


def test_a_step_that_overflowed_shows_nothing_and_the_next_one_is_looked_at() -> None:
    """The loss's scale is lowered then, and no weight moved."""
    for optimizer in (torch.optim.AdamW, torch.optim.SGD):
        parameters = {name: torch.nn.Parameter(torch.ones(64)) for name in ("w", "v")}
        made, watch = optimizer(parameters.values(), lr=1e-3), Watch(parameters, {})
        for number, broken in enumerate((torch.inf, torch.nan, 1.0), 1):
            parameters["w"].grad = torch.full((64,), broken)
            parameters["v"].grad = torch.ones(64)
            watch.look(made, number)
        assert {n: [step for step, _ in own] for n, own in watch.dues.items()} == {
            "w": [3], "v": [3]
        }  # fmt: skip
        assert watch.reached == {"w": 3, "v": 3}


def test_the_scale_of_a_loss_is_no_part_of_a_step() -> None:
    """Without clipping, the gradients are still multiplied by it when they are looked at."""
    for optimizer, rate in ((torch.optim.AdamW, 1e-2), (torch.optim.SGD, 1e2)):
        parameter = torch.nn.Parameter(torch.ones(64))
        parameter.grad = torch.full((64,), 1e-12 * 2.0**16)
        for scale, due in ((1.0, True), (2.0**16, False)):
            watch = Watch({"w": parameter}, {})
            watch.look(optimizer([parameter], lr=rate), 1, scale)
            assert bool(watch.dues) is due
