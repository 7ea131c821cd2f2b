"""The GPUs of this machine, and whether torch can use them; told without importing torch."""

from __future__ import annotations

import ast
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_DRIVERS = ("nvidia*", "dxg", "kfd")
"""What a driver of NVIDIA's, of Windows's Linux and of AMD's puts into /dev."""


def gpus() -> list[str]:
    """GPUs that CUDA_VISIBLE_DEVICES shows, else those of the machine."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:
        return [gpu for gpu in shown.split(",") if gpu.strip() and gpu.strip() != "-1"]
    return [str(number) for number in range(_nodes())]


@cache
def _nodes() -> int:
    """NVIDIA's GPUs in /dev, counted once: planning asks for each stage."""
    return sum(path.name[6:].isdigit() for path in Path("/dev").glob("nvidia[0-9]*"))


def unusable() -> str | None:
    """Why the GPUs that are shown cannot be computed on; None where nothing speaks against it."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    told = f"CUDA_VISIBLE_DEVICES={shown} shows a GPU" if shown else "this machine shows a GPU"
    if not any(any(Path("/dev").glob(driver)) for driver in _DRIVERS):
        return f"{told}, and this machine has no driver of one"
    built = _build()
    if built is not None and not any(built.get(kind) for kind in ("cuda", "hip")):
        return f"{told}, and torch {built.get('__version__')} is built without CUDA"
    return None


def _build() -> dict[str, object] | None:
    """What torch was built with, from its file of versions; None where there is no such file."""
    found = find_spec("torch")  # finding a package runs nothing of it
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).with_name("version.py")
    if not file.is_file():
        return None
    told: dict[str, object] = {}
    for line in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and isinstance(line.value, ast.Constant):
            for name in line.targets if isinstance(line, ast.Assign) else [line.target]:
                if isinstance(name, ast.Name):
                    told[name.id] = line.value.value
    return told
