"""What torch is set to for a whole process: deterministic algorithms (the option `deterministic:
true`: equal outputs in every run on one machine, also on a GPU; slower), and how float32 is
multiplied."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "FLASH_ATTENTION_DETERMINISTIC": "1"}
"""Variables that CUDA's libraries read once, when they start
(docs.pytorch.org/docs/stable/notes/randomness.html)."""


def set_deterministic(wanted: bool) -> None:
    """Let torch use only deterministic algorithms, or allow all algorithms.

    With `wanted`, an operation without a deterministic algorithm raises RuntimeError, and its stage
    fails. torch is imported only if needed, so that stages without it start quickly. An executor
    that starts workers sets ENVIRONMENT for them; a process that was started without it sets it
    here, which is in time unless a library has used the GPU.
    """
    if wanted:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    if wanted or "torch" in sys.modules:
        importlib.import_module("torch").use_deterministic_algorithms(wanted)


@contextlib.contextmanager
def float32_restored() -> Iterator[None]:
    """A context after which float32 is multiplied as before it.

    transformers allows TensorFloat-32, with 10 bits of precision, to the whole process: for `args:
    {tf32: true}`, and of its own accord for `torch_compile`; accelerate does so once more, to the
    GPU's matrix products alone. What is computed later would depend on it: the audits of the same
    training, and other stages of the same worker.
    """
    before = _precisions(sys.modules.get("torch")) or _AT_FIRST
    try:
        yield
    finally:
        if (torch := sys.modules.get("torch")) and _precisions(torch) != before:
            # The older setting, too: torch refuses to compile where the two disagree. It sets
            # parts, and so is set first.
            torch.set_float32_matmul_precision("high" if before[1] == "tf32" else "highest")
            for part, precision in zip(_parts(torch), before, strict=True):
                part.fp32_precision = precision


_AT_FIRST = ("none", "none", "none")
"""`_precisions` of torch once it is imported."""


def _precisions(torch: Any) -> tuple[str, ...]:
    """How precise products of float32 are; empty if torch is not imported."""
    return tuple(part.fp32_precision for part in _parts(torch)) if torch is not None else ()


def _parts(torch: Any) -> tuple[Any, ...]:
    """What has a precision of its own in torch: the whole, and parts, which do not follow it once
    they were set by themselves."""
    return torch.backends, torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
