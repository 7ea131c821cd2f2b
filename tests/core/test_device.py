"""A GPU is measured where it is used; asking takes none into use, and hides no error."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.core import device, measure
from harness.models.files import ModelRef
from harness.stages._training_cost import utilization


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A GPU that has taken so many millijoules when it is next asked."""
    readings: list[float] = []
    nvml = SimpleNamespace(
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: readings.pop(0), NVMLError=IndexError
    )
    allocator = SimpleNamespace(reset_peak_memory_stats=lambda: None, max_memory_allocated=int)
    monkeypatch.setattr(device, "used", lambda: SimpleNamespace(cuda=allocator))
    monkeypatch.setattr(device, "_counter", lambda: (nvml, "handle"))
    return readings


def test_a_phase_takes_the_joules_between_its_ends(card: list[float]) -> None:
    ledger = measure.Ledger()
    card += [1000, 3500, 9000, 9500, 20000, 20250]
    for name in ("load", "train", "load"):
        with ledger.phase(name):
            pass
    assert ledger.joules == {"load": 2.75, "train": 0.5}


def test_a_card_that_tells_no_more_hides_no_error(card: list[float]) -> None:
    ledger = measure.Ledger()
    card += [1000]
    with pytest.raises(RuntimeError, match="the device is gone"), ledger.phase("train"):
        raise RuntimeError("the device is gone")
    assert ledger.joules == {}


def test_a_card_is_first_asked_when_nothing_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []
    monkeypatch.setattr(device, "energy", lambda: asked.append(None))
    with pytest.raises(RuntimeError, match="assert"), measure.Ledger().phase("train"):
        raise RuntimeError("device-side assert")
    assert len(asked) == 1


def test_a_model_on_a_gpu_asks_for_attention_without_plans(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuDNN builds one for each new shape of a batch."""
    asked = []

    def recorded(enabled: bool) -> None:
        asked.append(enabled)
        raise NotImplementedError("no GPU here")

    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", recorded)
    with pytest.raises(NotImplementedError):
        ModelRef(str(tiny_model), "float32", "cuda").load()
    assert asked == [False]
    ModelRef(str(tiny_model), "float32", "cpu").load()
    assert asked == [False]


def test_without_a_gpu_nothing_is_told() -> None:
    ledger = measure.Ledger()
    with ledger.phase("train"):
        pass
    assert ledger.joules == {}
    assert device.matmul_rate("cpu", "bfloat16") is None


def test_utilization_is_the_share_of_the_devices_rate() -> None:
    result: Any = SimpleNamespace(steps=10, seconds_per_step=0.5)
    assert utilization(result, 2e13, 8e12)["mfu"] == pytest.approx(2e13 / 10 / 0.5 / 8e12)
    assert utilization(result, 2e13, None) == {}


ASKS = {
    "is_available": True, "is_initialized": False, "reset_peak_memory_stats": None,
    "max_memory_allocated": 7, "empty_cache": None, "get_device_name": "a card",
}  # fmt: skip
"""Functions of torch.cuda that measurements call, and what they answer where a GPU is."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions that were called, as on a machine with a GPU that is not in use."""
    names: list[str] = []

    def answering(name: str) -> Any:
        def answer(*args: Any) -> Any:
            names.append(name)
            return ASKS[name]

        return answer

    for name in ASKS:
        monkeypatch.setattr(torch.cuda, name, answering(name))
    return names


def test_measurements_take_no_gpu_into_use(asked: list[str]) -> None:
    """A stage on the CPU of a machine with a GPU: its times are the CPU's, its memory too."""
    ledger = measure.Ledger()
    with measure.freed_at_the_end(), ledger.phase("train"):
        pass
    assert "device_bytes" not in ledger.peak()
    assert "device_name" not in measure.machine()
    assert set(asked) <= {"is_available", "is_initialized"}


def test_a_gpu_in_use_is_measured(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ASKS, "is_initialized", True)
    monkeypatch.setattr(device, "_counter", lambda: None)
    ledger = measure.Ledger()
    with measure.freed_at_the_end(), ledger.phase("train"):
        pass
    assert ledger.peaks["train"]["device_bytes"] == 7
    assert measure.machine()["device_name"] == "a card"
    assert {"reset_peak_memory_stats", "empty_cache"} <= set(asked)


def test_a_gpu_that_answers_no_more_hides_no_error_and_no_record(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an assertion on the device every further question may raise, until the process ends."""
    ledger = measure.Ledger()
    monkeypatch.setitem(ASKS, "is_initialized", True)
    monkeypatch.setattr(device, "_counter", lambda: None)

    def broken(*args: Any) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    for name in ("reset_peak_memory_stats", "max_memory_allocated", "get_device_name"):
        monkeypatch.setattr(torch.cuda, name, broken)
    with pytest.raises(ValueError, match="the stage's own"), ledger.phase("train"):
        raise ValueError("the stage's own")
    assert ledger.peak()
    assert "threads" in measure.machine()


def test_a_gpu_without_room_for_products_has_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where other stages share it, it fails no training that fits."""

    def full(*args: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "randn", full)
    assert device.matmul_rate.__wrapped__("cuda", "bfloat16") is None


class Copied:
    """A tensor that notes how it is copied."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def pin_memory(self) -> Copied:
        self.calls.append("pin_memory")
        return self

    def to(self, device: Any, **options: Any) -> Copied:
        self.calls.append((device.type, options))
        return self


@pytest.mark.parametrize(
    ("kind", "calls"),
    [("cuda", ["pin_memory", ("cuda", {"non_blocking": True})]), ("cpu", [("cpu", {})])],
)
def test_a_copy_to_a_gpu_goes_through_pinned_memory_and_nobody_waits(
    kind: str, calls: list[Any]
) -> None:
    """A copy that does not block from memory that is not pinned may read what came later."""
    tensor = Copied()
    device.upload(tensor, torch.device(kind))
    assert tensor.calls == calls
