"""Proof that the method happened: checks at the end of a training stage."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.data.render import encode
from harness.inference.positions import logits_at
from harness.methods.base import Method
from harness.models.files import ModelRef
from harness.models.precision import MasterWeights, lost
from harness.objectives._trl.movement import due_by, elements
from harness.objectives.base import Evidence
from harness.stages._audit_movement import FROM_START, Check, changed, check, moved

_PROBE_ROWS, _PROBE_TOKENS, _PROBE_STRIDE = 4, 64, 8
_GOLDEN, _MIX = 0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9  # odd, as in the splitmix64 generator
_SUMMED = 2**22
"""Bytes summed at once: some fifty times as many stand beside them, in numbers of 64 bits."""
_MODULUS = 2**64


def probe(tokenizer: Any, rows: list[dict[str, Any]], device: str) -> Any:
    """Token ids of a few training rows, cut to one length; shape (rows, tokens)."""
    import torch

    ids = [encode(tokenizer, row)[0] for row in rows[:_PROBE_ROWS]]
    length = min(_PROBE_TOKENS, *map(len, ids))
    return torch.tensor([i[:length] for i in ids], device=device)


def logits(model: Any, ids: Any) -> Any:
    """Logits on the probe, in evaluation mode, float32; shape (positions, vocabulary).

    Of every eighth token, which depends on those before it: with a large vocabulary the others
    would be most of the work. A model with a head of its own: its output, (rows, size).
    """
    import torch

    training = model.training
    model.eval()
    last = torch.arange(ids.shape[1]).flip(0) % _PROBE_STRIDE == 0
    chosen = last.expand(ids.shape)
    with torch.no_grad():
        if model.get_output_embeddings() is None:
            output = model(input_ids=ids, use_cache=False).logits
        else:
            output = logits_at(model, chosen, input_ids=ids)
    model.train(training)
    return output.float()


def fingerprint(state: Mapping[str, Any]) -> dict[str, str]:
    """A digest of each tensor, taken where it lies, and nothing is copied.

    In the machine's memory it is a SHA-256, of several tensors at a time. In an accelerator's it is
    `sums`, of one tensor after the other: each takes memory there, beside a model that may fill it.
    """
    here = {name: tensor for name, tensor in state.items() if tensor.device.type == "cpu"}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = dict(zip(here, pool.map(_sha256, here.values()), strict=True))
    return {n: digests[n] if n in digests else sums(_raw(t)) for n, t in state.items()}


def _sha256(tensor: Any) -> str:
    return hashlib.sha256(_raw(tensor).numpy()).hexdigest()


def _raw(tensor: Any) -> Any:
    import torch

    return tensor.detach().contiguous().flatten().view(torch.uint8)


def sums(raw: Any) -> str:
    """Two sums of a tensor's bytes modulo 2^64, each byte times an odd weight of its place.

    One byte that changes always changes them; that several do and cancel out has odds of some
    2^-64, unless it is meant.

    Args:
        raw: (bytes,) of uint8, on any device.
    """
    import torch

    totals = torch.zeros(2, dtype=torch.int64, device=raw.device)  # it wraps around at 2^64
    for start in range(0, len(raw), _SUMMED):
        part = raw[start : start + _SUMMED].long()
        place = torch.arange(start, start + len(part), device=raw.device)
        mixed = (place * _GOLDEN) ^ ((place * _GOLDEN) >> 29)
        weights = (mixed * _MIX | 1, 2 * place + 1)
        totals += torch.stack([(part * weight).sum() for weight in weights])
    first, second = totals.tolist()  # the host waits once for a tensor
    return f"{len(raw)} {first % _MODULUS:016x} {second % _MODULUS:016x}"


def frozen_state(model: Any) -> dict[str, Any]:
    """The parameters that training must not move, by name."""
    return {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}


def expected_trainable(method: Method, base: Any, also_train: Sequence[str]) -> int | None:
    """What the method's formula says, from the loaded model's own shapes, and the modules that are
    trained in full beside it."""
    info = method.describe(base)
    rest = info.without(also_train)
    whole = (shape for name, shape in info.shapes.items() if name not in rest.shapes)
    count = method.count_trainable(rest)
    return None if count is None else count + sum(map(math.prod, whole))


def audit(
    method: Method,
    model: Any,
    ids: Any,
    before: Any,
    start: Mapping[str, str],
    expected: int | None,
    step_log: Path,
    begun: Any = None,
    *,
    places: Mapping[str, Any],
    evidence: Evidence | None,
    masters: MasterWeights,
) -> tuple[list[Check], Any]:
    """Every check of the trained model with its status: passed, failed, or skipped and why; and the
    model's logits on the probe, which `reloads` asks for once the model is gone.

    Args:
        ids: the probe. before: the base's logits on it, taken before anything was attached.
        start: fingerprint of the trainable tensors before training.
        expected: trainable parameters by the method's formula.
        begun: logits of the starting checkpoint, where it starts from one.
        places: as `_movement.places` remembers what trains, before it did.
        evidence: of the first steps, as of the one whose weights are kept.
        masters: gives the model as its checkpoint is loaded to be scored.
    """
    state, rounded = method.trainable_state(model), not method.keeps_float32()
    checks = [
        declared(state, expected),
        moved(start, fingerprint(state), evidence, rounded=rounded),
        elements(places, state, due_by(evidence.dues) if evidence else {}, rounded=rounded),
    ]
    with masters.as_loaded():
        fault = lost(model)
        after = logits(model, ids)
        checks += [
            changed(before, after, fault=fault),
            *([] if begun is None else [changed(begun, after, FROM_START, fault=fault)]),
            switched_off(method, model, ids, before),
            _finite(step_log),
            *(check(name, good, detail) for name, (good, detail) in method.proofs(model).items()),
        ]
    return checks, after.cpu()


def gradients(evidence: Evidence | None, may_lack_signal: bool) -> Check:
    """Over the first steps each trainable tensor had a gradient that is not zero."""
    name = "gradients reached every trainable tensor"
    if evidence is None:
        return {"check": name, "status": "skipped", "detail": "the objective shows no gradients"}
    if not evidence.signal and may_lack_signal:
        return {"check": name, "status": "skipped", "detail": "no step carried a signal"}
    missing, early = evidence.without_gradient, evidence.behind_gates
    detail = f"none at {missing[0]} and {len(missing) - 1} others" if missing else "all of them"
    if early:
        detail += f"; {len(early)} can have none before the first step: they pass through zeros"
    return check(name, not missing, detail)


def declared(state: Mapping[str, Any], expected: int | None) -> Check:
    """As many parameters train as the method's formula says."""
    name = "trainable parameters as declared"
    count = sum(tensor.numel() for tensor in state.values())
    if expected is None:
        return {"check": name, "status": "skipped", "detail": f"{count:,}; no formula for it"}
    return check(name, count == expected and count > 0, f"{count:,}, declared {expected:,}")


def switched_off(method: Method, model: Any, ids: Any, before: Any) -> Check:
    """Without the adapter, the model computes exactly what the base did."""
    name = "switched off, it is its base"
    reason = method.exceptions().get("switched_off")
    context = None if reason else method.switched_off(model)
    if context is None:
        reason = reason or f"{method.name} has no off switch"
        return {"check": name, "status": "skipped", "detail": reason}
    with context:
        off = logits(model, ids)
    width = min(off.shape[-1], before.shape[-1])  # one trained elsewhere may have other tokens
    difference = float((off[..., :width] - before[..., :width]).abs().max())
    return check(name, difference == 0, f"largest logit difference {difference:.3g}")


def reloads(method: Method, ref: ModelRef, checkpoint: Path, ids: Any, after: Any) -> Check:
    """The checkpoint gives the trained model's logits again. To be asked for when that model is
    gone: two would need twice the memory."""
    reloaded = logits(method.load_trained(ref, checkpoint), ids)
    return same(
        "the checkpoint reloads", reloaded, after.to(reloaded.device), method.reload_tolerance
    )


def same(name: str, computed: Any, wanted: Any, tolerance: float) -> Check:
    """Logits that differ by at most a share of the largest."""
    scale = max(float(wanted.abs().max()), 1e-12)
    difference = float((computed - wanted).abs().max()) / scale
    detail = f"relative logit difference {difference:.3g}, allowed {tolerance:g}"
    return check(name, difference <= tolerance, detail)


def _finite(step_log: Path) -> Check:
    name = "every loss is finite"
    if not step_log.is_file():
        return {"check": name, "status": "skipped", "detail": "the objective wrote no step log"}
    steps = [json.loads(line) for line in step_log.read_text().splitlines()]
    bad = [s["step"] for s in steps if "loss" in s and not math.isfinite(s["loss"])]
    return check(name, not bad, f"{len(steps)} steps" + (f"; not step {bad[0]}" if bad else ""))
