"""What a PPO run needs to go on: saved and restored without pickle.

There is no random state among it: every random number is a function of the seed and the step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.core.files import write_atomic
from harness.objectives._ppo.models import Actor
from harness.objectives._trl.trainer import COMPLETE, last_checkpoint

_POLICY, _VALUE, _OPTIMIZER, _STATE = (
    "policy.safetensors",
    "value.safetensors",
    "optimizer.safetensors",
    "state.json",
)


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: steps done. kl_coef: beta as adapted so far. tokens: seen by the policy's gradient.
        bad: steps running that showed a sign of collapse.
        seconds: spent on these steps, by every attempt that led here.
    """

    step: int
    kl_coef: float
    tokens: int = 0
    bad: int = 0
    seconds: float = 0.0


def save(
    folder: Path, actor: Actor, optimizer: torch.optim.Optimizer, progress: Progress, log: Path
) -> None:
    """Write `checkpoint-N` and remove older ones; whole only once its last file is there."""
    made = folder / f"checkpoint-{progress.step}"
    made.mkdir(parents=True, exist_ok=True)
    save_file(_tensors(actor.policy_parameters()), made / _POLICY)
    save_file(_tensors(actor.value_parameters()), made / _VALUE)
    save_file(_flat(optimizer), made / _OPTIMIZER)
    actor.watches.save(made)
    for path in made.glob("*.safetensors"):
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    write_atomic(made / log.name, log.read_text(encoding="utf-8"))
    write_atomic(made / _STATE, json.dumps(asdict(progress)))
    write_atomic(made / COMPLETE, "")
    for older in folder.glob("checkpoint-*"):
        if older != made:
            _discard(older)


def restore(
    folder: Path, actor: Actor, optimizer: torch.optim.Optimizer, log: Path
) -> Progress | None:
    """Bring the last whole checkpoint back in place; None where there is none."""
    found = last_checkpoint(folder)
    if found is None:
        return None
    _fill(actor.policy_parameters(), load_file(found / _POLICY))
    _fill(actor.value_parameters(), load_file(found / _VALUE))
    _unflatten(optimizer, load_file(found / _OPTIMIZER))
    actor.watches.restore(found)
    write_atomic(log, (found / log.name).read_text(encoding="utf-8"))
    return Progress(**json.loads((found / _STATE).read_text(encoding="utf-8")))


def _discard(folder: Path) -> None:
    (folder / COMPLETE).unlink(missing_ok=True)  # first, so that a kill leaves no half of it whole
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _tensors(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: p.detach().cpu().contiguous().clone() for name, p in parameters.items()}


def _fill(parameters: Mapping[str, nn.Parameter], saved: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's tensors by `index/name`; its options are the objective's, and are not saved."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}/{name}": value.detach().cpu().contiguous().clone()
        for index, values in state.items()
        for name, value in values.items()
    }


def _unflatten(optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in saved.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
