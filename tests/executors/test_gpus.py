"""Which GPUs a run may use, and that a worker sees no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import reason_of
from harness.executors import _gpus
from harness.executors.local import Local, LocalSession
from harness.store.stage import Resources, read_record
from tests.executors.test_processes import end_of, folder_of, kinds_in


@pytest.mark.parametrize(
    ("shown", "names"),
    [
        ("", []), ("-1", []), (" ", []), ("NoDevFiles", []), ("void", []), ("0-3", []),
        ("0", ["0"]), ("0, 1", ["0", "1"]), ("3,-1,1", ["3"]), ("1,,2", ["1"]),
        ("GPU-8f7a-12,GPU-9", ["GPU-8f7a-12", "GPU-9"]), ("MIG-9c/1/0", ["MIG-9c/1/0"]),
        ("MIG-GPU-9c-1/13/0", ["MIG-GPU-9c-1/13/0"]),
    ],
)  # fmt: skip
def test_the_gpus_are_those_that_cuda_would_show(
    shown: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert _gpus.gpus() == names
    assert Local().device() == ("cuda" if names else "cpu")
    assert Local().capacity() == max(1, len(names))


def test_a_gpu_that_is_asked_for_and_not_shown_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asks = Local(device_class="cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")
    assert "CUDA_VISIBLE_DEVICES=NoDevFiles shows none" in str(asks.refuse(Resources()))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(_gpus, "_nodes", lambda: 0)
    monkeypatch.setattr(_gpus, "_DRIVERS", ("nvidia*", "no-such-driver"))
    assert str(asks.refuse(Resources())).endswith("this machine shows none")
    monkeypatch.setattr(_gpus, "_DRIVERS", ("nvidia*", "null"))  # as AMD's, or WSL's
    assert "name them, as in CUDA_VISIBLE_DEVICES=0" in str(asks.refuse(Resources()))


SEES = """
    import os
    def run(job):
        return {"sees": os.environ.get("CUDA_VISIBLE_DEVICES")}
"""


@pytest.mark.parametrize(
    ("gpus", "env", "sees"),
    [([], {}, ""), (["3"], {}, "3"), ([], {"CUDA_VISIBLE_DEVICES": "1"}, "1")],
)
def test_a_worker_for_the_cpu_sees_no_gpu_unless_the_suite_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: list[str], env: dict[str, str], sees: str
) -> None:
    """Or its libraries would use one: PEFT loads adapters to any GPU that it sees."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    kinds = kinds_in(tmp_path / "kinds", {"sees": SEES})
    session = LocalSession(1, 1, gpus, tmp_path / "log.txt")
    folder = folder_of(tmp_path, "sees", "one")
    try:
        session.submit(folder, Resources(env={**kinds, **env}))
        assert end_of(session).error is None
    finally:
        session.close()
    record = read_record(folder)
    assert record is not None
    assert record.metrics == {"sees": sees}


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory", "HIP out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)  # fmt: skip
def test_a_full_gpu_is_told_from_other_errors_by_every_library(message: str) -> None:
    assert reason_of(RuntimeError(message)) == "out of memory"
    assert reason_of(RuntimeError("CUDA error: device-side assert triggered")) == "error"
