"""The energy of a GPU is read where NVML tells it, phase by phase."""

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
    monkeypatch.setattr(device, "_cuda", lambda: SimpleNamespace())
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


def testutilization_is_the_share_of_the_devices_rate() -> None:
    result: Any = SimpleNamespace(steps=10, seconds_per_step=0.5)
    assert utilization(result, 2e13, 8e12)["mfu"] == pytest.approx(2e13 / 10 / 0.5 / 8e12)
    assert utilization(result, 2e13, None) == {}
