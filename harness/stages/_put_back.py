"""The weights that a service gives back: downloaded, checked, and written as a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.archives import extract
from harness.core.errors import StageFailed
from harness.core.measure import free_leftovers
from harness.data.steps import OptimizerStep
from harness.inference.download import download
from harness.methods._elsewhere import Elsewhere, Weights, plain_lora
from harness.methods._layers import loaded_layers
from harness.methods._peft.shared import CONFIG, WEIGHTS
from harness.models.files import ModelRef
from harness.stages import _audit_movement
from harness.stages._models import CHECKPOINT
from harness.stages.base import Job

Check = _audit_movement.Check
_RETURNED = "returned"
_BESIDE = 2**22
"""Bytes that an adapter's files have beside its numbers, which are float32 at most."""
_SHARE = 0.03
"""Largest difference of a loss that a service computed from that which is computed here, as a share
of it (of 1 where it is smaller): a service computes in a number format of its own."""


def put_back(
    job: Job,
    method: Elsewhere,
    ref: ModelRef,
    weights: Weights,
    step: OptimizerStep,
    first: float,
) -> list[Check]:
    """Write the adapter that comes back as a checkpoint in PEFT's format.

    Args:
        step: the first one, whose loss after the training the service may have told.
        first: its loss before.

    Raises:
        StageFailed: it is another thing than a LoRA of this rank on these layers.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    with job.ledger.phase("load"):
        base = method.load(ref)
        lora = method.lora(loaded_layers(base))
        model = lora.attach(base)
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    limit = sum(4 * tensor.numel() for tensor in wanted.values()) + _BESIDE
    with job.ledger.phase("download"):
        folder = _fetched(job, weights, limit)
    alpha = _alpha(folder / CONFIG, method)
    tensors = _tensors(folder / WEIGHTS, wanted)
    if alpha != lora.lora_alpha:
        lora = lora.model_copy(update={"lora_alpha": alpha})
        model = lora.attach(model.unload())
    set_peft_model_state_dict(model, tensors)
    with job.ledger.phase("audit"):
        here, short = loss_of(model, step), ref.dtype != "float32"
        told = weights.loss
        checks = [] if told is None else [_trained(here, told, first, short)]
    with job.ledger.phase("save"):
        lora.save(model, job.folder / CHECKPOINT)
    del model, base
    free_leftovers()
    return checks


def _fetched(job: Job, weights: Weights, limit: int) -> Path:
    """The folder with the two files of an adapter, downloaded.

    Args:
        limit: largest size of each in bytes.
    """
    folder = job.work / _RETURNED
    folder.mkdir(exist_ok=True)
    bounds: Any = {
        "limit": limit, "origin": weights.origin, "headers": weights.headers,
        "most": job.config.method.download_timeout,
    }  # fmt: skip
    if weights.archive is not None:
        archive = job.work / "returned.tar"
        download(weights.archive, archive, **bounds)
        extract(archive, folder, (CONFIG, WEIGHTS), limit)
        return folder
    for name in (CONFIG, WEIGHTS):
        if name not in weights.files:
            told = ascii(sorted(weights.files)[:5])
            raise StageFailed("weights", f"the service gives no {name}, but {told}")
        download(weights.files[name], folder / name, **bounds)
    return folder


def _alpha(config: Path, method: Elsewhere) -> int:
    try:
        fields = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        raise StageFailed("weights", f"the service's {CONFIG} is no JSON") from None
    known = plain_lora(fields) if isinstance(fields, dict) else "it is no mapping"
    if isinstance(known, str):
        raise StageFailed("weights", f"the service's {CONFIG} is of no plain LoRA: {known[:200]}")
    rank, alpha = known
    if rank != method.r:
        raise StageFailed("weights", f"the service trained rank {rank}, where r is {method.r}")
    return alpha


def _tensors(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The adapter's tensors in float32, checked.

    Args:
        wanted: name -> tensor of the shape that it must have.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise StageFailed("weights", f"the service's {WEIGHTS} cannot be read: {error}") from None
    missing, others = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing:
        raise StageFailed("weights", f"the service's adapter has no {missing[0]}")
    if others:
        told = f"{others[0][:200]!a}, of a layer that was not to train"
        raise StageFailed("weights", f"the service's adapter has {told}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            sizes = f"{list(tensor.shape)}, not {list(wanted[name].shape)}"
            raise StageFailed("weights", f"the service's {name} has the shape {sizes}")
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise StageFailed("weights", f"the service's {name} holds numbers that are not finite")
    return {name: tensor.float() for name, tensor in tensors.items()}


def _trained(here: float, there: float, before: float, short: bool) -> Check:
    """Whether the adapter has the loss that it had at the service.

    Where the base is in a short format, an update smaller than the last digit of a layer's output
    is rounded away: the loss may lie anywhere between that and the loss before the training.
    """
    name = "what came back is what the service trained"
    nearest = min(max(here, min(there, before)), max(there, before)) if short else there
    check = same_loss(name, here, nearest)
    detail = f"the loss of the first step's rows was {before:.4f}, is {there:.4f} there"
    return {**check, "detail": f"{detail} and {here:.4f} here"}


def same_loss(name: str, here: float, there: float) -> Check:
    allowed = _SHARE * max(1.0, abs(here))
    detail = f"the loss of the first step's rows is {there:.4f} there and {here:.4f} here"
    return _audit_movement.check(name, abs(here - there) <= allowed, detail)


def loss_of(model: Any, step: OptimizerStep) -> float:
    """The mean of -log p over a step's labels."""
    import torch

    model.eval()
    total = 0.0
    for row in step.sequences:
        ids = torch.tensor([list(row.ids)], device=model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        learnt = torch.tensor(row.learnt, device=model.device)
        picked = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        total -= float(picked[learnt].sum())
    return total / step.labels
