"""What the audit says of a training does not depend on whether it was killed and went on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.objectives._trl import evidence_file as _evidence_file
from harness.objectives._trl.keep_best import KeepBest
from harness.objectives._trl.movement import Watch
from harness.objectives._trl.trainer import StepLog
from harness.objectives.base import Evidence
from harness.stages.base import WORK
from tests.conftest import Workspace, chat_rows, write_jsonl

STEPS = 6


def same(one: Evidence, other: Evidence) -> bool:
    """All that was seen is equal, tensors too."""
    dues = [
        [(name, step, due.tolist()) for name, own in found.dues.items() for step, due in own]
        for found in (one, other)
    ]
    bare = [{**vars(found), "dues": ()} for found in (one, other)]
    return dues[0] == dues[1] and bare[0] == bare[1]


# --- the watch ------------------------------------------------------------------------------------


def steps_of(parameters: dict[str, Any]) -> Iterator[float]:
    """Learning rates; the gradients are set: late ones, never any, behind a gate, half of them."""
    for number, rate in enumerate([0.0, 1e-9, 1e-3, 1e-3, 1e-3, 1e-3]):
        for parameter in parameters.values():
            parameter.grad = torch.zeros(8)
        parameters["free"].grad = torch.full((8,), 1.0)
        parameters["gate"].grad = torch.full((8,), float(number > 1))
        parameters["gated"].grad = torch.full((8,), float(number > 3))
        parameters["half"].grad = torch.tensor([1.0] * 3 + [1e-12] * 5)
        parameters["gate"].data.fill_(float(number > 2))
        yield rate


def looked(folder: Path, killed: int | None) -> Evidence:
    """What a watch tells that is saved and begun anew after so many steps."""
    parameters = {n: torch.nn.Parameter(torch.ones(8)) for n in ("free", "gated", "half", "never")}
    parameters["gate"] = torch.nn.Parameter(torch.zeros(8))
    optimizer = torch.optim.SGD(parameters.values(), lr=1.0)
    watch, batches = Watch(parameters, {"gated": "gate"}), [{"input_ids": torch.tensor([[3, 1]])}]
    for number, rate in enumerate(steps_of(parameters)):
        if number == killed:
            _evidence_file.save(folder, {"model": watch}, batches)
            watch = Watch(parameters, {"gated": "gate"})
            batches = _evidence_file.restore(folder, {"model": watch})
        optimizer.param_groups[0]["lr"] = rate
        watch.look(optimizer, number + 1)
    return watch.evidence(batches)


@pytest.mark.parametrize("killed", range(STEPS))
def test_a_watch_goes_on_as_if_it_had_never_ended(tmp_path: Path, killed: int) -> None:
    whole, resumed = looked(tmp_path, None), looked(tmp_path, killed)
    assert whole.without_gradient == ("never",)
    assert whole.reached == {"free": 1, "half": 1, "gate": 3, "gated": 5}
    assert same(whole, resumed)
    assert all(same(whole.as_of(step), resumed.as_of(step)) for step in range(STEPS))


def test_a_watch_that_had_looked_long_enough_looks_no_more(tmp_path: Path) -> None:
    late = torch.nn.Parameter(torch.ones(4))
    optimizer, watch = torch.optim.SGD([late], lr=1.0), Watch({"w": late}, {})
    for _ in range(20):
        watch.look(optimizer)
    _evidence_file.save(tmp_path, {"model": watch})
    again = Watch({"w": late}, {})
    _evidence_file.restore(tmp_path, {"model": again})
    late.grad = torch.ones(4)
    again.look(optimizer)
    assert again.without_gradient == ("w",)


def test_a_checkpoint_without_evidence_begins_anew(tmp_path: Path) -> None:
    watch = Watch({"w": torch.nn.Parameter(torch.ones(4))}, {})
    assert _evidence_file.restore(tmp_path, {"model": watch}) == []
    assert watch.without_gradient == ("w",)


# --- whole trainings ------------------------------------------------------------------------------


def write(workspace: Workspace, **options: Any) -> None:
    """A suite of one SFT, saved after every step."""
    write_jsonl(workspace.folder / "validation.jsonl", chat_rows(50, 4))
    letters = {"train": "train.jsonl", "test": "test.jsonl", "validation": "validation.jsonl"}
    sft = {"per_device_train_batch_size": 4, "max_length": 64, "max_steps": STEPS, **options}
    workspace.write(
        data={"letters": letters}, matrix={"method": ["lora"], "objective": [{"sft": sft}]},
        base={}, scorers=["exact_match"], resources={"checkpoint_seconds": 0},
    )  # fmt: skip


def audits(workspace: Workspace, store: Path) -> list[dict[str, Any]]:
    """The record's metrics of every training; none failed."""
    outcome = workspace.run(store=store)
    assert not outcome.failed, [record.error for record in outcome.failed]
    return [r.metrics for r in outcome.records.values() if r.kind == "train"]


@pytest.mark.parametrize(("keep", "first"), [("last", 1), ("best", 1), ("best", 4)])
def test_a_killed_training_is_audited_like_a_whole_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, keep: str, first: int
) -> None:
    """Which step is best is set, as it hangs on the machine's last digits otherwise."""
    chosen = property(lambda self: next((f for f in self.seen if f[0] >= first), self.seen[0]))
    monkeypatch.setattr(KeepBest, "best", chosen)
    best = {"keep": "best", "eval_steps": 1} if keep == "best" else {}
    write(workspace, learning_rate=1e-3, **best)
    whole = audits(workspace, workspace.folder / "whole")
    save = StepLog.on_save
    for moment in (2, 3, 5):

        def killed(
            self: Any, args: Any, state: Any, control: Any, at: int = moment, **rest: Any
        ) -> None:
            if state.global_step == at:
                raise OSError("killed here")
            save(self, args, state, control, **rest)

        with monkeypatch.context() as patched:
            patched.setattr(StepLog, "on_save", killed)
            assert workspace.run(store=workspace.folder / "cut").failed
        assert list((workspace.folder / "cut").glob(f"train/*/{WORK}/checkpoint-{moment - 1}"))
    assert audits(workspace, workspace.folder / "cut") == whole


# --- the kept step --------------------------------------------------------------------------------


def test_weights_that_no_step_has_moved_yet_are_not_the_best(workspace: Workspace) -> None:
    """A warm-up begins at a rate of 0; what comes after it is worse here."""
    write(
        workspace, learning_rate=1.0, max_steps=4, warmup_ratio=0.25, keep="best", eval_steps=1,
        max_grad_norm=0,
    )  # fmt: skip
    (metrics,) = audits(workspace, workspace.folder / "whole")
    losses = dict(metrics["kept"]["validated"])
    assert min(losses, key=lambda step: losses[step]) == 1
    assert metrics["kept"]["step"] == min((2, 3, 4), key=lambda step: losses[step])
