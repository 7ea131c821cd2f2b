"""A worker lives for hundreds of stages, and after each it is what it was before."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.executors.local import LocalSession
from harness.store.stage import RECORD, Resources, read_record
from harness.worker import run_stage
from tests.conftest import DPO, PPO, REWARD, SFT, Workspace
from tests.executors.test_processes import end_of, folder_of, kinds_in

MEASURE = """
    import ctypes, gc, os, threading
    from pathlib import Path

    def run(job):
        import torch
        gc.unfreeze()  # the worker froze what was there before this stage
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what is freed goes back to the system, to be seen
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return {
            "pid": os.getpid(),
            "resident": pages * os.sysconf("SC_PAGE_SIZE"),
            "tensors": sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()),
            "threads": threading.active_count(),
            "files": len(os.listdir("/proc/self/fd")),
            "children": len(children),
        }
"""
"""A stage that tells what the worker holds."""
WARM_UP, ROUNDS = 2, 6
"""Rounds over the stages of a suite: those that caches may fill in, and all."""
GROWTH = 4 * 2**20
"""Bytes that may be added in the rounds after the warm-up, some 220 stages. safetensors keeps about
30 bytes for each tensor that it reads, which here makes 8 KB a stage. A model of 20,000 parameters
that stays would be 80 KB a stage."""


def stages_of(workspace: Workspace) -> list[Path]:
    """Run a suite of several kinds of stages; the folders of its stages, in their order."""
    outcome = workspace.run()
    assert not outcome.failed, [r.error for r in outcome.failed]
    records = sorted(outcome.records.values(), key=lambda r: r.provenance["started"])
    assert {"data", "train", "generate", "score"} <= {r.kind for r in records}
    return [workspace.store / r.kind / r.key[:24] for r in records]


def again(folder: Path) -> Path:
    """A stage's folder as before it ran: its record goes, and the worker clears the rest."""
    (folder / RECORD).unlink()
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_worker_of_hundreds_of_stages_holds_no_more_than_at_first(
    aligned: Workspace, tmp_path: Path
) -> None:
    steps = {"max_steps": 1}
    objectives = [{"sft": {**SFT, **steps}}, {"dpo": {**DPO, **steps}}, {"ppo": {**PPO, **steps}}]
    methods = ["full", {"lora": {"r": 4}}, "qlora"]
    aligned.write(
        matrix={"data": ["letters"], "method": methods, "objective": objectives},
        reward_model={**REWARD, **steps},
        scorers=["exact_match", "rouge", {"perplexity": {"data": "general", "label": "general"}}],
    )
    folders = stages_of(aligned)
    env = kinds_in(tmp_path / "kinds", {"measure": MEASURE})
    session = LocalSession(1, 1, [], tmp_path / "log.txt")
    seen: list[dict[str, int]] = []

    def ran(folder: Path) -> dict[str, Any]:
        session.submit(folder, Resources(env=env))
        assert end_of(session).error is None
        record = read_record(folder)
        assert record is not None
        assert record.ok, record.error
        return record.metrics

    try:
        for number in range(ROUNDS):
            for folder in folders:
                ran(again(folder))
            seen.append(ran(folder_of(tmp_path, "measure", f"measure-{number}")))
    finally:
        session.close()
    first, *later = seen[WARM_UP - 1 :]
    assert len(folders) * len(later) >= 150
    for each in later:
        assert {**each, "resident": 0} == {**first, "resident": 0}, seen
    assert later[-1]["resident"] - first["resident"] < GROWTH, seen


def held() -> dict[str, int]:
    """What this process holds, that a stage could leave behind."""
    gc.collect()
    objects = gc.get_objects()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "tensors": sum(issubclass(type(o), torch.Tensor) for o in objects),
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "children": len(children),
    }


def test_a_few_dozen_stages_leave_nothing_behind(workspace: Workspace) -> None:
    steps = [{"sft": {**SFT, "max_steps": 1}}]
    workspace.write(matrix={"method": [{"lora": {"r": 4}}], "objective": steps})
    folders = stages_of(workspace)
    seen = []
    for _ in range(2):
        for folder in folders:
            assert run_stage(again(folder), lambda event: None).ok
        seen.append(held())
    assert seen[0] == seen[1]
