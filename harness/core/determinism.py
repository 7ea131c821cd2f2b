"""`deterministic: true`: equal outputs twice on one machine, on a GPU too; slower."""

from __future__ import annotations

import importlib
import sys

ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "FLASH_ATTENTION_DETERMINISTIC": "1"}
"""What CUDA's libraries read once, when they start
(docs.pytorch.org/docs/stable/notes/randomness.html)."""


def set_deterministic(wanted: bool) -> None:
    """Have torch use algorithms alone that give the same bits each time, or any.

    An operation that has none raises RuntimeError then, and its stage fails. torch is imported only
    where it must be: a stage that uses none stays quick.
    """
    if wanted or "torch" in sys.modules:
        importlib.import_module("torch").use_deterministic_algorithms(wanted)
