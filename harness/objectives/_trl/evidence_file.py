"""Saves the observations of a training in its checkpoints, so that a resumed training is audited by
the same evidence as one without a break.

The file is a safetensors file with the tensors, and the rest as JSON in its metadata.
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

_FILE, _KEY = "evidence.safetensors", "evidence"
Batch = Mapping[str, Any]


def save(folder: Path, watches: Mapping[str, Watch], batches: Sequence[Batch] = ()) -> None:
    """Write the observations of each watch and batches of tensors into a checkpoint's folder."""
    content: dict[str, Any] = {"batches": [list(batch) for batch in batches], "watches": {}}
    tensors = {
        f"batch/{number}/{name}": tensor
        for number, batch in enumerate(batches)
        for name, tensor in batch.items()
    }
    for name, watch in watches.items():
        content["watches"][name], places = watch.state()
        tensors |= {f"{name}/{place}": tensor for place, tensor in places.items()}
    save_file(tensors, folder / _FILE, {_KEY: json.dumps(content)})
    with (folder / _FILE).open("rb") as handle:  # on disk before the checkpoint is complete
        os.fsync(handle.fileno())


def restore(folder: Path, watches: Mapping[str, Watch]) -> list[dict[str, Any]]:
    """Restore the observations of each watch, and return the batches.

    Does nothing, and returns [], for a checkpoint of an earlier version, which has no such file.
    """
    if not (folder / _FILE).is_file():
        return []
    with safe_open(folder / _FILE, framework="pt") as file:
        content = json.loads(file.metadata()[_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, watch in watches.items():
        begin = f"{name}/"
        places = {n.removeprefix(begin): t for n, t in tensors.items() if n.startswith(begin)}
        watch.restore(content["watches"][name], places)
    return [
        {name: tensors[f"batch/{number}/{name}"] for name in names}
        for number, names in enumerate(content["batches"])
    ]
