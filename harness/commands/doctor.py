"""`harness doctor`: checks the machine, the libraries and the store, and prints a line for each."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import cast

from harness.core import registry
from harness.core.errors import why
from harness.core.files import digest_file
from harness.core.memory import of_this_machine
from harness.core.text import number_of
from harness.executors.base import Executor
from harness.store.stage import Resources, read_record
from harness.store.store import Store

_LIBRARIES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "rouge-score-rs",
    "sacrebleu", "pandas", "scipy", "statsmodels", "openai",
)  # fmt: skip


def examine(store: Path) -> tuple[str, bool]:
    """(the checks as text, whether all passed)"""
    checks = [_python(), _memory(), *map(_library, _LIBRARIES), _torch(), _executor(), _hub(),
              *_store(store)]  # fmt: skip
    lines = [f"{'ok' if good else 'WRONG':<6} {text}" for good, text in checks]
    return "\n".join(lines), all(good for good, _ in checks)


def _python() -> tuple[bool, str]:
    return sys.version_info >= (3, 11), f"Python {platform.python_version()} (3.11 or newer)"


def _memory() -> tuple[bool, str]:
    memory = of_this_machine() / 2**30
    return memory >= 4, f"{os.cpu_count()} cores, {memory:.0f} GiB of memory (4 at least)"


def _library(name: str) -> tuple[bool, str]:
    try:
        return True, f"{name} {version(name)}"
    except PackageNotFoundError:
        return False, f"{name} is not installed: pip install finetune-harness"


def _torch() -> tuple[bool, str]:
    """Tests torch in a process of its own, as the commands do not import it."""
    command = [sys.executable, "-c", _COMPUTES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return False, f"torch does not run: {done.stderr.strip().splitlines()[-1]}"
    return True, done.stdout.strip()


_COMPUTES = """
import torch

torch.ones(2) @ torch.ones(2)
told = "no CUDA device"
if torch.cuda.is_available():
    ones = torch.ones(2, device="cuda")
    (ones @ ones).item()  # fails where torch was not built for this GPU, or the driver is too old
    told = torch.cuda.get_device_name()
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        told += ", slow in bfloat16: set `dtype: float16` or `dtype: float32` on the models"
print("torch computes;", told)
"""


def _executor() -> tuple[bool, str]:
    """Whether the default executor can use the device that it would choose."""
    local = cast(Executor, registry.find("executor", "local")())
    refusal = local.refuse(Resources())
    slots = local.capacity()
    chosen = f"executor local: {local.device()}, {slots} stage{'s' * (slots > 1)} at once"
    return refusal is None, refusal or chosen


def _hub() -> tuple[bool, str]:
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
    state = "offline by HF_HUB_OFFLINE" if offline else "may be asked, not tried here"
    return True, f"hub: {state}, cache {cache}"


def _store(root: Path) -> list[tuple[bool, str]]:
    if not root.is_dir():
        return [(True, f"store {root}: does not exist yet")]
    try:
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        return [(False, f"store {root} cannot be written: {why(error)}")]
    store = Store(root)
    folders = list(store.folders())
    damaged = []
    for folder in folders:
        record = read_record(folder)
        if record is None or not record.ok:
            continue
        for name, output in record.outputs.items():
            path = folder / name
            if output.released:
                continue
            if not path.is_file() or digest_file(path) != output.sha256:
                damaged.append(f"{folder.parent.name}/{folder.name}/{name}")
    free = shutil.disk_usage(root).free / 2**30
    text = f"store {root}: {number_of(len(folders), 'stage')}, {free:.0f} GiB free"
    if damaged:
        names = ", ".join(damaged[:5])
        return [(False, f"{text}; damaged files, whose stages run again when needed: {names}")]
    return [(free > 1, text)]
