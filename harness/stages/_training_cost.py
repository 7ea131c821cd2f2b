"""What a training is expected to cost, and what it cost: operations, time, memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.core.measure import number_count, tensor_bytes
from harness.methods.base import BYTES, Method
from harness.models.files import ModelInfo
from harness.objectives.base import Objective, TrainResult
from harness.stages._cost import Rates, training_flops
from harness.stages._cost_memory import Batch, activation_bytes, peak_bytes
from harness.stages._models import CHECKPOINT
from harness.stages._training_rows import Sequences, accumulated, batch_size, epochs, sequences
from harness.stages.base import Job


def expected_training(
    info: ModelInfo,
    method: Method,
    objective: Objective,
    data: Mapping[str, Any],
    rates: Rates,
    dtype: str,
    lengths: Sequence[int] = (),
) -> dict[str, float]:
    """Expected seconds, tokens, bytes of state and checkpoint; what is not known is left out.

    Memory: weights, gradients and AdamW's two moments by the method's own formula, and the
    activations that autograd keeps. Time: 6 N D floating-point operations for D tokens on N
    parameters (Kaplan et al., 2020, arXiv:2001.08361, section 2.1), 4 N D where the base's weights
    take no gradient.

    Args:
        data: metrics of the training rows.
        dtype: the format of the model's weights.
        lengths: tokens of each row; until they are measured they are guessed by bytes.
    """
    cost: dict[str, float] = {}
    total, trainable = info.parameters, method.count_trainable(info)
    parts = method.state_bytes(info, dtype)
    if total is None or trainable is None or parts is None:
        return cost
    if objective.head == "lm":
        cost["trainable_parameters"] = float(trainable)
        cost["checkpoint_bytes"] = float(parts["gradients"])  # what trains, in its format
    if not objective.predictable:  # references, pairs, rollouts: unknown rather than wrong
        return cost
    if "longest_bytes" not in data:
        return {**cost, "state_bytes": float(sum(parts.values()))}
    room = None if info.context is None else info.context - method.places()
    read = sequences(objective, data, lengths, room)
    memory = _expected_memory(info, method, objective, read, dtype, parts)
    return {**cost, **memory, **_expected_time(total, trainable, method, objective, read, rates)}


def _expected_memory(
    info: ModelInfo,
    method: Method,
    objective: Objective,
    read: Sequences,
    dtype: str,
    parts: Mapping[str, int],
) -> dict[str, float]:
    """Bytes of state in the first step, which is measured, and the most that stand at once in any.

    Args:
        parts: bytes of `weights`, `gradients` and `optimizer`.
    """
    size, rows = BYTES[dtype], min(batch_size(objective), read.count)

    def padded(tokens: float) -> int:
        return int(rows * (tokens + method.added_tokens()))

    one_pass = Batch(
        tokens=padded(read.first),
        size=size,
        whole=not method.adapts,
        inputs=method.keeps_inputs,
        beside=method.kept_numbers(info),
        checkpointed=bool(getattr(objective, "gradient_checkpointing", False)),
        several=accumulated(objective) > 1,
        raised=method.raises_base,
    )
    # What autocast makes of float32 weights stands until the backward pass has used it.
    autocast = size < 4 and method.keeps_float32()
    copies = size * (method.count_trainable(info) or 0) if autocast else 0
    state = sum(parts.values()) + copies + (activation_bytes(info.config, one_pass) or 0)
    largest = replace(one_pass, tokens=padded(read.longest))
    peak = peak_bytes(parts, info.config, largest)
    most = {} if peak is None else {"peak_bytes": float(peak + copies)}
    return {"state_bytes": float(state), **most}


def _expected_time(
    parameters: int,
    trainable: int,
    method: Method,
    objective: Objective,
    read: Sequences,
    rates: Rates,
) -> dict[str, float]:
    """Tokens, operations and seconds; of a training that ends by the clock, its seconds, and the
    tokens that the rate gives in that time."""
    whole = int(epochs(objective, read.count) * read.tokens)
    tokens = getattr(objective, "max_tokens", None) or whole
    computed = tokens * (1 + method.added_tokens() / read.mean)
    flops, rate = training_flops(parameters, trainable, computed), rates.flops("train", parameters)
    timed = {} if rate is None else {"seconds": flops / rate, **rates.beside("train", parameters)}
    if limit := getattr(objective, "max_seconds", None):
        # Loading and audits come on top.
        done = {"tokens": tokens * limit / timed["seconds"]} if timed else {}
        return {**done, **timed, "seconds": float(limit)}
    return {"tokens": float(tokens), "flops": flops, **timed}


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
