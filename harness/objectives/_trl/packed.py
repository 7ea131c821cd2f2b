"""Tests whether a model keeps the documents of one packed row apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from harness.core.errors import StageFailed
from harness.models.precision import autocast_of
from harness.objectives._trl.loss import PLACES

CHECK = "packed documents do not see one another"
_TOKENS = 64
"""Tokens of each of the two documents: a leak shows in the tokens that follow next."""
_ALLOWED = {torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 1e-3}
"""Allowed relative difference by the coarsest of the model's dtypes (a quantised layer computes in
the dtype of the others). The two passes differ only in tokens that must not be seen, so families
that keep documents apart give the same bits, unless experts get their tokens in another order. If a
document is seen, the logits of random two-layer models change by more than 0.02."""


def apart(
    model: Any,
    collate: Callable[[list[Mapping[str, Any]]], Mapping[str, Any]],
    documents: Sequence[Sequence[int]],
    rows: int = 1,
    limit: int = 2 * _TOKENS,
) -> dict[str, str]:
    """Test that replacing the first document of a packed row leaves the second one's logits alone.

    A family keeps packed documents apart only if it uses position_ids for its attention mask and
    has no state that continues over the end of a document. No config tells this, so the model
    itself is run as in the training. Its mode and the random state stay the same.

    Args:
        collate: builds a batch from rows (input_ids, seq_lengths), as in the training.
        documents: token ids of documents; two of them are used.
        rows: number of packed rows in the batch; some attention kernels keep documents apart only
            in a batch of one.
        limit: largest number of tokens in a packed row.

    Returns:
        An audit entry: check, detail, and status (passed, failed, or skipped if there are no two
        documents).
    """
    first, second = _two(documents, max(1, min(_TOKENS, limit // 2)))
    known = sorted({*first, *second})
    if not first or not second or len(known) < 2:
        return {"check": CHECK, "status": "skipped", "detail": "there are no two documents"}
    # Other tokens, the same length: each token becomes the next one of the known tokens.
    following = dict(zip(known, [*known[1:], known[0]], strict=True))
    other = [following[token] for token in first]
    with _undisturbed(model):
        logits, moved = (_second(model, collate, begin, second, rows) for begin in (first, other))
    # Compare norms: rounding changes a few logits, a document that is seen changes all of them.
    difference = float((logits - moved).norm() / logits.norm().clamp(min=1e-12))
    coarsest = max((p.dtype for p in model.parameters() if p.is_floating_point()), key=_eps)
    allowed = _ALLOWED.get(coarsest, _ALLOWED[torch.float32])
    return {
        "check": CHECK,
        # A NaN counts as failed.
        "status": "passed" if difference <= allowed else "failed",
        "detail": f"another first document moves the second's logits by {difference:.3g} of"
        f" their size, allowed {allowed:g}",
    }


def leaking(check: Mapping[str, str], objective: str) -> StageFailed:
    """The exception for a training in which packed documents would see one another.

    Args:
        check: the result of `apart`.
    """
    return StageFailed(
        "packing",
        f"packed documents would see one another in this model: {check['detail']}",
        fix=f"set `packing: false` on {objective}",
    )


def _two(documents: Sequence[Sequence[int]], most: int) -> tuple[list[int], list[int]]:
    """The beginnings of the two longest of the first documents."""
    longest = sorted(documents[:100], key=len, reverse=True)[:2]
    first, second = ([list(ids)[:most] for ids in longest] + [[], []])[:2]
    return first, second


def _eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


@torch.no_grad()
def _second(
    model: Any,
    collate: Callable[[list[Mapping[str, Any]]], Mapping[str, Any]],
    first: list[int],
    second: list[int],
    rows: int,
) -> torch.Tensor:
    """Logits of the second document after the first; (rows, tokens, vocabulary) in float32."""
    packed = {"input_ids": first + second, "seq_lengths": [len(first), len(second)]}
    batch = collate([{**packed, "labels": packed["input_ids"]}] * rows)
    device = next(model.parameters()).device
    inputs = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
        if name not in ("labels", "tokens", PLACES)
    }
    with autocast_of(model):  # as in the training
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits[:, -len(second) :].float().cpu()


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Context manager with the model in evaluation mode; restores modes and random states."""
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
