"""What was seen of a training, saved in its checkpoint: one that was killed and went on is judged
by the same evidence as one that was not.

One safetensors file: the tensors, and the rest as JSON in its metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from harness.objectives._trl.movement import Watch

_FILE, _TOLD = "evidence.safetensors", "evidence"
Batch = Mapping[str, Any]


def save(folder: Path, watches: Mapping[str, Watch], batches: Sequence[Batch] = ()) -> None:
    """Write what each watch saw, and batches of tensors, into a checkpoint's folder."""
    told: dict[str, Any] = {"batches": [list(batch) for batch in batches], "watches": {}}
    tensors = {
        f"batch/{number}/{name}": tensor
        for number, batch in enumerate(batches)
        for name, tensor in batch.items()
    }
    for watch, own in watches.items():
        told["watches"][watch], found = own.state()
        tensors |= {f"{watch}/{name}": tensor for name, tensor in found.items()}
    save_file(tensors, folder / _FILE, {_TOLD: json.dumps(told)})
    with (folder / _FILE).open("rb") as handle:  # on disk before the checkpoint counts as whole
        os.fsync(handle.fileno())


def restore(folder: Path, watches: Mapping[str, Watch]) -> list[dict[str, Any]]:
    """Bring each watch back to what it saw; the batches. Nothing of a checkpoint without a file,
    which an earlier version wrote: what is seen from here on must do."""
    if not (folder / _FILE).is_file():
        return []
    with safe_open(folder / _FILE, framework="pt") as file:
        told = json.loads(file.metadata()[_TOLD])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for watch, own in watches.items():
        begin = f"{watch}/"
        found = {n.removeprefix(begin): t for n, t in tensors.items() if n.startswith(begin)}
        own.restore(told["watches"][watch], found)
    return [
        {name: tensors[f"batch/{number}/{name}"] for name in names}
        for number, names in enumerate(told["batches"])
    ]
