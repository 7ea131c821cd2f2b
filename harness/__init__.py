"""Decide how to fine-tune a language model: train, measure and compare in one matrix.

What stands in `__all__` is the public surface: `run`, `plan`, `compare` and `load` do from Python
what the commands do, every mistake is raised as a `HarnessError`, and a plugin's classes derive
from the six bases. Every other name may move.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.commands.compare import compare
    from harness.commands.plan import plan
    from harness.commands.run import run
    from harness.comparison.frames import load
    from harness.comparison.result import Comparison
    from harness.core.errors import HarnessError
    from harness.executors.base import Executor
    from harness.labellers.base import Labeller
    from harness.methods.base import Method
    from harness.objectives.base import Objective
    from harness.scorers.base import Scorer
    from harness.stages.base import StageKind

__version__ = "0.1.0"
__all__ = [
    "Comparison", "Executor", "HarnessError", "Labeller", "Method", "Objective", "Scorer",
    "StageKind", "__version__", "compare", "load", "plan", "run",
]  # fmt: skip

_MODULES = {
    "compare": "harness.commands.compare",
    "plan": "harness.commands.plan",
    "run": "harness.commands.run",
    "load": "harness.comparison.frames",
    "Comparison": "harness.comparison.result",
    "HarnessError": "harness.core.errors",
    "Executor": "harness.executors.base",
    "Labeller": "harness.labellers.base",
    "Method": "harness.methods.base",
    "Objective": "harness.objectives.base",
    "Scorer": "harness.scorers.base",
    "StageKind": "harness.stages.base",
}
"""Public name -> the module that defines it, as imported above for type checkers."""


def __getattr__(name: str) -> object:
    """Public names are imported when they are first used, so that `import harness` stays free of
    pandas and torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
