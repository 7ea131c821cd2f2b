"""What a stage cost, and on what it ran."""

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
    """What each phase of a stage took; phases do not nest, a later one of the same name adds up.

    Attributes:
        phases: seconds.
        peaks: most bytes in use, as `peak_memory` has them; `rest`: outside all phases.
        joules: of a GPU that tells, by phase; all that ran on the card counts.
    """

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self.peaks: dict[str, dict[str, int]] = {}
        self.joules: dict[str, float] = {}
        reset_peak()
        self._began = _scheduled()

    def waited(self) -> float | None:
        """Share of the time this process wanted a processor that it waited for one, as others had
        them; None where the system does not tell."""
        ran, waited = (max(0, b - a) for a, b in zip(self._began, _scheduled(), strict=True))
        return round(waited / (ran + waited), 3) if ran + waited else None

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block under `name`, and take its peak memory and its energy."""
        self._take_peak(_REST)
        start, before = time.monotonic(), device.energy()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.monotonic() - start
            # Not asked first here: of a card that an error has broken, asking would hide the error.
            after = None if before is None else device.energy()
            if before is not None and after is not None:
                self.joules[name] = self.joules.get(name, 0.0) + after - before
            self._take_peak(name)

    def peak(self) -> dict[str, int]:
        """Of the whole stage until now."""
        self._take_peak(_REST)
        whole: dict[str, int] = {}
        for found in self.peaks.values():
            _raise_to(whole, found)
        return whole

    def _take_peak(self, name: str) -> None:
        _raise_to(self.peaks.setdefault(name, {}), peak_memory())
        reset_peak()


def _raise_to(known: dict[str, int], found: Mapping[str, int]) -> None:
    for kind, amount in found.items():
        known[kind] = max(amount, known.get(kind, 0))


def _scheduled() -> tuple[int, int]:
    """Nanoseconds that this process's threads ran, and that they waited to run (Linux)."""
    ran = waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread may just have ended
            own = path.read_text().split()
            ran, waited = ran + int(own[0]), waited + int(own[1])
    return ran, waited


def _processor() -> str:
    """The processor's name; its kind where the system tells no more."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(": ")[2]
    return platform.processor() or platform.machine()


def reset_peak() -> None:
    """Forget the peaks until now in this process (Linux's VmHWM; CUDA's allocator)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def freed_at_the_end() -> Iterator[None]:
    """Free what the block made and nothing else holds. Meanwhile what was there before, which is
    half a million objects of the libraries, is frozen: looking for leftovers passes it over.

    What the block raises must have been dealt with inside: a traceback keeps what it leads to.
    """
    gc.freeze()
    try:
        yield
    finally:
        free_leftovers()
        gc.unfreeze()


def free_leftovers() -> None:
    """Free models and trainers that refer to each other in circles, which Python alone collects at
    some later time, and the blocks that CUDA's allocator keeps of them."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        with contextlib.suppress(RuntimeError):  # the device's state, which the stage has told of
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
