"""The option `deterministic: true`: equal outputs in every run on one machine, also on a GPU;
slower."""

from __future__ import annotations

import importlib
import sys

ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "FLASH_ATTENTION_DETERMINISTIC": "1"}
"""Variables that CUDA's libraries read once, when they start
(docs.pytorch.org/docs/stable/notes/randomness.html)."""


def set_deterministic(wanted: bool) -> None:
    """Let torch use only deterministic algorithms, or allow all algorithms.

    With `wanted`, an operation without a deterministic algorithm raises RuntimeError, and its stage
    fails. torch is imported only if needed, so that stages without it start quickly.
    """
    if wanted or "torch" in sys.modules:
        importlib.import_module("torch").use_deterministic_algorithms(wanted)
