"""Measures a GPU: its energy, and its rate of matrix products."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import itertools
import sys
from typing import Any

SIDE = 8192
"""The number of rows and of columns of the matrices that are multiplied to measure the rate."""
_PRODUCTS = 10


def set_up(device: str) -> None:
    """Prepare this process for a model on a device.

    On an H100, torch 2.11 prefers cuDNN for attention with a mask. cuDNN builds a plan for each new
    shape, which takes about 0.1 s, and both training batches and generation steps often have new
    shapes. So cuDNN's attention is switched off; the other kernels need no plan.
    """
    if device == "cuda":
        importlib.import_module("torch").backends.cuda.enable_cudnn_sdp(False)


def upload(tensor: Any, device: Any) -> Any:
    """A tensor of the CPU on a torch.device.

    The host does not wait: a copy to a GPU goes through pinned memory. A plain `.to(device)` waits
    until the GPU has done all that was asked of it before.
    """
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def energy() -> float | None:
    """The energy in joules that this process's GPU has used since its driver started, by all
    processes; None if CUDA has not been used, or if NVML (nvidia-ml-py) gives no value."""
    counter = _counter() if used() is not None else None
    if counter is None:
        return None
    nvml, handle = counter
    try:
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except nvml.NVMLError:
        return None


@functools.cache
def matmul_rate(device: str, dtype: str) -> float | None:
    """The rate of the GPU's matrix product in a dtype, in floating-point operations per second:
    the median of ten products of random matrices; None for a CPU, and for a GPU that others have
    left no room for them.

    It is measured once in a process. It resets the peak memory, so that later peaks do not include
    it."""
    if device != "cuda":
        return None
    torch = importlib.import_module("torch")
    try:
        return _measured_rate(torch, getattr(torch, dtype))
    except torch.OutOfMemoryError:
        return None


def _measured_rate(torch: Any, dtype: Any) -> float:
    left, right = torch.randn(2, SIDE, SIDE, device="cuda", dtype=dtype)
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


def used() -> Any:
    """The module torch if this process uses a GPU, else None.

    Most functions of torch.cuda take a GPU into use: they are for those who know it is, or a stage
    on the CPU would take memory of a GPU that others use.
    """
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


@functools.cache
def _counter() -> tuple[Any, Any] | None:
    """The module NVML and its handle of the process's GPU; None if the driver or its energy counter
    is missing. The GPU is looked up by its UUID, since CUDA_VISIBLE_DEVICES changes the numbers."""
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
