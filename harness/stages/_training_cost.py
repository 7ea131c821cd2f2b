"""What a training cost: operations, time, and memory by what takes it."""

from __future__ import annotations

from typing import Any

from harness.core.measure import number_count, tensor_bytes
from harness.objectives.base import TrainResult
from harness.stages._cost import training_flops
from harness.stages._models import CHECKPOINT
from harness.stages.base import Job


def training_cost(job: Job, model: Any, result: TrainResult, rate: float | None) -> dict[str, Any]:
    """What the record says of it; its peak memory is that of the training alone.

    Args:
        rate: floating-point operations a second that the device's matrix products reach.
    """
    total = number_count(model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    flops = training_flops(total, trainable, result.tokens)
    seconds = job.ledger.phases["train"] + result.earlier_seconds
    parts = {
        "weights": tensor_bytes(model.parameters()),
        "gradients": result.gradient_bytes,
        "optimizer": result.optimizer_bytes,
        "activations": result.saved_activation_bytes,
    }
    known = [part for part in parts.values() if part is not None]
    return {
        "parameters": total,
        "trainable_parameters": trainable,
        "tokens": result.tokens,
        "flops": flops,
        "flops_source": "4ND + 2N'D, N parameters, N' trainable, D tokens (arXiv:2001.08361)",
        "flops_per_second": flops / seconds,
        "peak_memory": job.ledger.peaks["train"],
        **utilization(result, flops, rate),
        "train_seconds": seconds,
        "seconds_per_step": result.seconds_per_step,
        "state": parts,
        # Without a part that is not known it would seem to need less than others.
        "state_bytes": sum(known) if len(known) == len(parts) else None,
        "checkpoint_bytes": sum(
            path.stat().st_size for path in (job.folder / CHECKPOINT).glob("*.safetensors")
        ),
    }


def utilization(result: TrainResult, flops: float, rate: float | None) -> dict[str, float]:
    """The share of the device's rate that a usual step reached: model FLOPs utilization (Chowdhery
    et al., 2022, arXiv:2204.02311, appendix B), without attention's own operations."""
    if rate is None or not result.steps or not result.seconds_per_step:
        return {}
    share = flops / result.steps / result.seconds_per_step / rate
    return {"mfu": share, "matmul_flops_per_second": rate}
