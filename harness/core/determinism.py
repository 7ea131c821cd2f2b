"""The option `deterministic: true`: equal outputs in every run on one machine, also on a GPU;
slower."""

from __future__ import annotations

import importlib
import os
import sys

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
