"""Float32 is multiplied in one way, whatever a training was allowed before."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import training_args

from harness.core.determinism import float32_restored
from harness.executors.local import LocalSession
from harness.stages import _audit, train
from harness.store.stage import Resources, read_record
from harness.worker import run_stage
from tests.conftest import SFT, Workspace
from tests.executors.test_processes import end_of, folder_of, kinds_in


def test_after_a_block_float32_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    with float32_restored():
        torch.backends.fp32_precision = "tf32"
    assert torch.backends.fp32_precision == "none"
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"  # as torch has it by default
    monkeypatch.delitem(sys.modules, "torch")
    with float32_restored():  # the block imports torch
        monkeypatch.setitem(sys.modules, "torch", torch)
        torch.backends.fp32_precision = "tf32"
    assert torch.backends.fp32_precision == "none"


def _all_precisions() -> list[Any]:
    of = torch.backends
    parts = (of, of.cuda.matmul, of.cudnn, of.cudnn.conv, of.cudnn.rnn, of.mkldnn, of.mkldnn.matmul)
    each = [part.fp32_precision for part in parts]
    return [*each, torch.get_float32_matmul_precision(), of.cuda.matmul.allow_tf32]


def _compiled() -> None:
    """As accelerate does for a model that is compiled, on a GPU."""
    torch.backends.cuda.matmul.allow_tf32 = True


ALLOWING: dict[str, Callable[[], None]] = {
    "compiled": _compiled,
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "none": lambda: None,
}


@pytest.mark.parametrize("allows", ALLOWING)
@pytest.mark.parametrize("whole", [None, "tf32", "ieee"])
def test_whatever_allowed_it_float32_is_as_before(allows: str, whole: str | None) -> None:
    before = _all_precisions()
    with float32_restored():
        if whole is not None:
            torch.backends.fp32_precision = whole
        ALLOWING[allows]()
    assert _all_precisions() == before


ALLOWS = """
    import torch
    def run(job):
        before = torch.backends.fp32_precision
        torch.backends.fp32_precision = "tf32"
        return {"before": before}
"""


def test_a_stage_leaves_nothing_allowed_to_the_next(tmp_path: Path) -> None:
    env = kinds_in(tmp_path / "kinds", {"allows": ALLOWS})
    session = LocalSession(1, 1, [], tmp_path / "log.txt")
    folders = [folder_of(tmp_path, "allows", name) for name in ("first", "second")]
    try:
        for folder in folders:
            session.submit(folder, Resources(env=env))
            assert end_of(session).error is None
    finally:
        session.close()
    found = [record.metrics["before"] for f in folders if (record := read_record(f)) is not None]
    assert found == ["none", "none"]


def test_audits_after_a_training_in_tensorfloat_compute_as_those_before(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []

    def noting(name: str, work: Any) -> Any:
        def noted(*args: Any, **options: Any) -> Any:
            seen.append((name, torch.backends.fp32_precision))
            return work(*args, **options)

        return noted

    workspace.write(
        matrix={"method": [{"lora": {"r": 4}}],
                "objective": [{"sft": {**SFT, "max_steps": 1, "args": {"tf32": True}}}]},
    )  # fmt: skip
    outcome = workspace.run(only="lora-sft")
    (stage,) = [r for r in outcome.failed if r.kind == "train"]
    assert "tf32" in json.dumps(stage.error)  # a CPU has none
    monkeypatch.setattr(training_args, "is_torch_tf32_available", lambda: True)
    monkeypatch.setattr(_audit, "logits", noting("audit", _audit.logits))
    monkeypatch.setattr(train, "_train", noting("train", train._train))
    look = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", noting("step", look))
    record = run_stage(workspace.store / "train" / stage.key[:24], lambda event: None)
    assert record.ok, record.error
    assert ("step", "tf32") in seen
    assert {precision for name, precision in seen if name == "audit"} == {"none"}
    assert seen[-1][0] == "audit"
