"""Measures the cost of a stage (time, memory, energy), and describes the machine."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.core import device

LIBRARIES = (
    "torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets",
    "rouge-score-rs", "sacrebleu",
)  # fmt: skip
_REST = "rest"


class Ledger:
    """The cost of each phase of a stage. Phases do not nest; phases of the same name are added up.

    Attributes:
        phases: phase -> seconds.
        peaks: phase -> peak memory in bytes (see `peak_memory`); `rest` is outside all phases.
        joules: phase -> energy of the GPU in joules, used by all processes on it; empty if the GPU
            does not report it.
    """

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self.peaks: dict[str, dict[str, int]] = {}
        self.joules: dict[str, float] = {}
        reset_peak()
        self._began = _scheduled()

    def waited(self) -> float | None:
        """The share of time that this process waited for a processor, of the time that it ran or
        waited for one; None if the system does not report it."""
        ran, waited = (max(0, b - a) for a, b in zip(self._began, _scheduled(), strict=True))
        return round(waited / (ran + waited), 3) if ran + waited else None

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the block's time, peak memory and energy to the phase `name`."""
        self._take_peak(_REST)
        start, before = time.monotonic(), device.energy()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.monotonic() - start
            # Only asked again if it answered before: after an error of the GPU, asking may raise
            # an exception that hides that error.
            after = None if before is None else device.energy()
            if before is not None and after is not None:
                self.joules[name] = self.joules.get(name, 0.0) + after - before
            self._take_peak(name)

    def peak(self) -> dict[str, int]:
        """The peak memory of the whole stage until now (see `peak_memory`)."""
        self._take_peak(_REST)
        whole: dict[str, int] = {}
        for amounts in self.peaks.values():
            _raise_to(whole, amounts)
        return whole

    def _take_peak(self, name: str) -> None:
        _raise_to(self.peaks.setdefault(name, {}), peak_memory())
        reset_peak()


def _raise_to(known: dict[str, int], amounts: Mapping[str, int]) -> None:
    for kind, amount in amounts.items():
        known[kind] = max(amount, known.get(kind, 0))


def _scheduled() -> tuple[int, int]:
    """The nanoseconds that this process's threads ran, and that they waited to run (Linux; else
    0)."""
    ran = waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread may just have ended
            fields = path.read_text().split()
            ran, waited = ran + int(fields[0]), waited + int(fields[1])
    return ran, waited


def _processor() -> str:
    """The processor's name, or its type if the system does not report the name."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(": ")[2]
    return platform.processor() or platform.machine()


def reset_peak() -> None:
    """Reset this process's peak memory (Linux's VmHWM and CUDA's allocator)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    with contextlib.suppress(RuntimeError):  # the GPU answers no more, as the stage reports
        if (torch := device.used()) is not None:
            torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def freed_at_the_end() -> Iterator[None]:
    """Free the objects that the block created and that are not in use after it. The objects from
    before the block (half a million, of the libraries) are frozen, so that the garbage collection
    skips them.

    The block must handle its exceptions itself, since a traceback keeps objects alive.
    """
    gc.freeze()
    try:
        yield
    finally:
        free_leftovers()
        gc.unfreeze()


def free_leftovers() -> None:
    """Free unused models and trainers that refer to each other in cycles, which Python would
    collect only later, and the memory that CUDA's allocator keeps for them."""
    gc.collect()
    with contextlib.suppress(RuntimeError):  # the GPU answers no more, as the stage reports
        if (torch := device.used()) is not None:
            torch.cuda.empty_cache()


def peak_memory() -> dict[str, int]:
    """Peak memory in bytes since the last reset: `host_bytes` resident, `device_bytes` allocated on
    the GPU."""
    peaks = {}
    with contextlib.suppress(OSError, IndexError):
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM"))
        peaks["host_bytes"] = int(peak.split()[1]) * 1024
    with contextlib.suppress(RuntimeError):
        if (torch := device.used()) is not None:
            peaks["device_bytes"] = int(torch.cuda.max_memory_allocated())
    return peaks


def machine() -> dict[str, Any]:
    """The versions and the hardware, for the provenance of a record."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["threads"] = torch.get_num_threads()
        facts["deterministic"] = torch.are_deterministic_algorithms_enabled()
        with contextlib.suppress(RuntimeError):
            if device.used() is not None:  # a GPU that is only there says nothing of the times
                facts["device_name"] = torch.cuda.get_device_name()
    return facts


def versions(libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Library -> installed version. The default is the libraries that results depend on."""
    installed = {}
    for name in libraries:
        with contextlib.suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def number_count(parameters: Iterable[Any]) -> int:
    """The number of values in parameters. If bitsandbytes packed a parameter, its unpacked values
    count."""
    total = 0
    for parameter in parameters:
        packed = getattr(parameter, "quant_state", None)
        total += parameter.numel() if packed is None else math.prod(packed.shape)
    return total


def tensor_bytes(tensors: Iterable[Any]) -> int:
    """The bytes of tensors. Storage that several tensors share is counted once."""
    seen: dict[int, int] = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())
