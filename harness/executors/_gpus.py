"""The GPUs of this machine, and whether torch can use them, found out without importing torch."""

from __future__ import annotations

import ast
import itertools
import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_DRIVERS = ("nvidia*", "dxg", "kfd")
"""Files in /dev that the drivers of NVIDIA, of Linux on Windows, and of AMD make."""
_NAME = re.compile(r"\d+|(GPU|MIG)-[\w/-]+")
"""A GPU's number or UUID, or that of a part of one (MIG)."""


def gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names; if it is not set, all of NVIDIA's of the machine.

    As in CUDA, the list ends before the first name that is none: `-1`, or Slurm's `NoDevFiles`.
    """
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return [str(number) for number in range(_nodes())]
    names = (name.strip() for name in shown.split(","))
    return list(itertools.takewhile(_NAME.fullmatch, names))


def none_shown() -> str:
    """Why no GPU is shown, and what to do where there is one all the same."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:
        return f"CUDA_VISIBLE_DEVICES={shown} shows none"
    others = [driver for driver in _DRIVERS[1:] if any(Path("/dev").glob(driver))]
    if not others:
        return "this machine shows none"
    return f"those behind /dev/{others[0]} are not counted: name them, as in CUDA_VISIBLE_DEVICES=0"


@cache
def _nodes() -> int:
    """Number of NVIDIA's GPUs in /dev, counted once, since a plan asks for every stage."""
    return sum(path.name[6:].isdigit() for path in Path("/dev").glob("nvidia[0-9]*"))


def unusable() -> str | None:
    """The reason why torch cannot compute on the GPUs that are shown; None if none is known."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = f"CUDA_VISIBLE_DEVICES={shown} shows a GPU" if shown else "this machine shows a GPU"
    if not any(any(Path("/dev").glob(driver)) for driver in _DRIVERS):
        return f"{seen}, and this machine has no driver of one"
    built = _build()
    if built is not None and not any(built.get(kind) for kind in ("cuda", "hip")):
        return f"{seen}, and torch {built.get('__version__')} is built without CUDA"
    return None


def _build() -> dict[str, object] | None:
    """What torch was built with, from the constants in its version.py; None if there is no such
    file."""
    package = find_spec("torch")  # this runs no code of the package
    if package is None or package.origin is None:
        return None
    file = Path(package.origin).with_name("version.py")
    if not file.is_file():
        return None
    constants: dict[str, object] = {}
    for line in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and isinstance(line.value, ast.Constant):
            for name in line.targets if isinstance(line, ast.Assign) else [line.target]:
                if isinstance(name, ast.Name):
                    constants[name.id] = line.value.value
    return constants
