"""What both scripts for a GPU share: the machine, and a file of what was found so far."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "performance"
TRIES = ROOT / "build"
"""For what is no result: tries on a CPU, and what an earlier call left to go on from."""
NO_GPU = 3


def device_name() -> str | None:
    """The first GPU's name; asked of the driver, or of torch in a process of its own."""
    name = _asked_of_driver("name")
    if name is not None:
        return name
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip() or None


def describe() -> dict[str, Any]:
    """The machine, what is installed, and the tree."""
    from harness.core.measure import versions

    git = shutil.which("git")
    told = None
    if git is not None:
        told = subprocess.run(
            [git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return {
        "driver": _asked_of_driver("driver_version"),
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "versions": versions(),
        "commit": told.stdout.strip() if told is not None and told.returncode == 0 else "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }


def _asked_of_driver(what: str) -> str | None:
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    which = ["-i", shown] if shown else []
    found = subprocess.run(
        [command, f"--query-gpu={what}", "--format=csv,noheader", *which],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (found.stdout.strip().splitlines() or [None])[0] if found.returncode == 0 else None


def folder_of(out: Path | None, name: str, *, figures: bool) -> Path:
    """Where a device's file lies.

    Args:
        out: what the command line names. figures: whether the device is a GPU; a try on a CPU is
            kept out of the project's results.
    """
    device = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    return (out or (RESULTS if figures else TRIES / "tries")) / device


def kept(file: Path) -> dict[str, Any]:
    """What an earlier call wrote; empty if there was none."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def keep(file: Path, found: Mapping[str, Any]) -> None:
    """Write the whole file, or leave the old one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    part.replace(file)


def end_with(parent: int) -> None:
    """End this process soon after its parent, however that ended: a measurement that nobody waits
    for would take the GPU from the next call's.

    Args:
        parent: its process id, which the parent tells: it may have ended already.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
