"""Saves and restores the state of a PPO run, without pickle.

It needs no random state: every random number is a function of the seed and the step.
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
    """The progress of a run.

    Attributes:
        step: number of steps done.
        kl_coef: the present beta.
        tokens: number of tokens that the policy's gradients have used.
        bad: number of last steps in a row that showed a sign of collapse.
        seconds: time spent on these steps, over all attempts.
    """

    step: int
    kl_coef: float
    tokens: int = 0
    bad: int = 0
    seconds: float = 0.0


def save(
    folder: Path, actor: Actor, optimizer: torch.optim.Optimizer, progress: Progress, log: Path
) -> None:
    """Write `checkpoint-N`, then remove older ones. The checkpoint counts as complete once its last
    file, `COMPLETE`, exists."""
    checkpoint = folder / f"checkpoint-{progress.step}"
    checkpoint.mkdir(parents=True, exist_ok=True)
    save_file(_tensors(actor.policy_parameters()), checkpoint / _POLICY)
    save_file(_tensors(actor.value_parameters()), checkpoint / _VALUE)
    save_file(_flat(optimizer), checkpoint / _OPTIMIZER)
    actor.watches.save(checkpoint)
    for path in checkpoint.glob("*.safetensors"):
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    write_atomic(checkpoint / log.name, log.read_text(encoding="utf-8"))
    write_atomic(checkpoint / _STATE, json.dumps(asdict(progress)))
    write_atomic(checkpoint / COMPLETE, "")
    for older in folder.glob("checkpoint-*"):
        if older != checkpoint:
            _discard(older)


def restore(
    folder: Path, actor: Actor, optimizer: torch.optim.Optimizer, log: Path
) -> Progress | None:
    """Load the last complete checkpoint into the models, the optimizer and the log; None if there
    is none."""
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        return None
    _fill(actor.policy_parameters(), load_file(checkpoint / _POLICY))
    _fill(actor.value_parameters(), load_file(checkpoint / _VALUE))
    _unflatten(optimizer, load_file(checkpoint / _OPTIMIZER))
    actor.watches.restore(checkpoint)
    write_atomic(log, (checkpoint / log.name).read_text(encoding="utf-8"))
    return Progress(**json.loads((checkpoint / _STATE).read_text(encoding="utf-8")))


def _discard(folder: Path) -> None:
    (folder / COMPLETE).unlink(missing_ok=True)  # first: a kill must leave no half marked complete
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
    """AdamW's tensors by `index/name`. Its options come from the objective and are not saved."""
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
