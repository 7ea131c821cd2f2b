"""What a stage cost, and on what it ran."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness import device

LIBRARIES = (
    "torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets",
    "rouge-score-rs", "sacrebleu",
)  # fmt: skip
_LONG_COLLECTION = 0.1
"""Seconds."""


class Ledger:
    """Seconds by phase; phases do not nest, a later one of the same name adds up.

    Attributes:
        joules: of a GPU that tells, by phase; all that ran on the card counts.
    """

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self.joules: dict[str, float] = {}
        self._began = _scheduled()

    def waited(self) -> float | None:
        """Share of the time this process wanted a processor that it waited for one, as others had
        them; None where the system does not tell."""
        ran, waited = (max(0, b - a) for a, b in zip(self._began, _scheduled(), strict=True))
        return round(waited / (ran + waited), 3) if ran + waited else None

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block under `name`."""
        start, before = time.monotonic(), device.energy()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.monotonic() - start
            after = device.energy()
            if before is not None and after is not None:
                self.joules[name] = self.joules.get(name, 0.0) + after - before


def _scheduled() -> tuple[int, int]:
    """Nanoseconds that this process's threads ran, and that they waited to run (Linux)."""
    ran = waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread may just have ended
            own = path.read_text().split()
            ran, waited = ran + int(own[0]), waited + int(own[1])
    return ran, waited


def _processor() -> str:
    """The processor's name; nothing where the system does not tell."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(": ")[2]
    return platform.processor()


def reset_peak() -> None:
    """Forget the peaks of earlier stages in this process (Linux's VmHWM; CUDA's allocator)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def free_leftovers() -> None:
    """Free what a stage left: models and trainers that refer to each other in circles, which
    Python alone collects at some later time, and blocks that CUDA's allocator keeps.

    After the stage that imported the libraries, their half a million objects are frozen: from then
    on only what stages made is looked through.
    """
    start = time.monotonic()
    gc.collect()
    if time.monotonic() - start > _LONG_COLLECTION:
        gc.freeze()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        with contextlib.suppress(RuntimeError):  # an error of the device that stays; see Local
            torch.cuda.empty_cache()


def peak_memory() -> dict[str, int]:
    """Peak bytes since the last reset: resident on the host, allocated on the device."""
    found = {}
    with contextlib.suppress(OSError, IndexError):
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM"))
        found["host_bytes"] = int(peak.split()[1]) * 1024
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["device_bytes"] = int(torch.cuda.max_memory_allocated())
    return found


def machine() -> dict[str, Any]:
    """Versions and hardware, for provenance: a comparison across torch versions is flagged."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        found["deterministic"] = torch.are_deterministic_algorithms_enabled()
        if torch.cuda.is_available():
            found["device_name"] = torch.cuda.get_device_name()
    return found


def versions(libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Installed versions of libraries; default: those that results depend on."""
    found = {}
    for name in libraries:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def number_count(parameters: Iterable[Any]) -> int:
    """Numbers in parameters; those that bitsandbytes packed count as the ones they stand for."""
    total = 0
    for parameter in parameters:
        packed = getattr(parameter, "quant_state", None)
        total += parameter.numel() if packed is None else math.prod(packed.shape)
    return total


def tensor_bytes(tensors: Iterable[Any]) -> int:
    """Bytes of tensors, those that share storage counted once."""
    seen: dict[int, int] = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
    return sum(seen.values())
