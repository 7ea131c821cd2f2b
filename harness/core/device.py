"""What a GPU can do, and what it took: its rate of matrix products, and its energy."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import itertools
import sys
from typing import Any

SIDE = 8192
"""Rows and columns of the matrices whose product is timed."""
_PRODUCTS = 10


def set_up(device: str) -> None:
    """What a process does before it has a model on a device.

    torch 2.11 gives attention with a mask to cuDNN first on an H100, which builds a plan for each
    new shape, some 0.1 s forward: batches of rows differ in shape, and so does each step of an
    answer. The other kernels need no plan.
    """
    if device == "cuda":
        importlib.import_module("torch").backends.cuda.enable_cudnn_sdp(False)


def energy() -> float | None:
    """Joules that the process's GPU has taken since its driver started, by all that ran on it; None
    where CUDA has not been used or NVML (nvidia-ml-py) does not tell, or tells no more."""
    counter = _counter() if _cuda() is not None else None
    if counter is None:
        return None
    nvml, handle = counter
    try:
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except nvml.NVMLError:
        return None


@functools.cache
def matmul_rate(device: str, dtype: str) -> float | None:
    """Floating-point operations a second of the GPU's own matrix product in a dtype, the median of
    ten on random numbers; None for a CPU. Measured once a process, and in no peak of memory that is
    measured after it."""
    if device != "cuda":
        return None
    torch = importlib.import_module("torch")
    left, right = torch.randn(2, SIDE, SIDE, device="cuda", dtype=getattr(torch, dtype))
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(_PRODUCTS + 1)]
    for _ in range(3):  # libraries load, clocks rise
        left @ right
    for mark in marks[:-1]:
        mark.record()
        left @ right
    marks[-1].record()
    torch.cuda.synchronize()
    times = sorted(a.elapsed_time(b) for a, b in itertools.pairwise(marks))
    del left, right
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return 2.0 * SIDE**3 / (float(times[len(times) // 2]) / 1000)


def _cuda() -> Any:
    """torch, where this process has a GPU that it uses."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return torch


@functools.cache
def _counter() -> tuple[Any, Any] | None:
    """NVML and its handle of the process's GPU, found by its name, as CUDA_VISIBLE_DEVICES changes
    the numbers; None where its driver or its count of energy is missing."""
    if importlib.util.find_spec("pynvml") is None:
        return None
    nvml, torch = importlib.import_module("pynvml"), sys.modules["torch"]
    with contextlib.suppress(nvml.NVMLError):
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(
            f"GPU-{torch.cuda.get_device_properties(0).uuid}".encode()
        )
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        return nvml, handle
    return None
