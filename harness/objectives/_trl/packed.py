"""Whether a model keeps the documents of one packed row apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from harness.core.errors import StageFailed
from harness.models.precision import autocast_of

CHECK = "packed documents do not see one another"
_TOKENS = 64
"""Of each of the two documents: what leaks, leaks to the tokens that come next."""
_ALLOWED = {torch.float32: 1e-5, torch.bfloat16: 4e-3, torch.float16: 1e-3}
"""By the coarsest of the model's dtypes (a quantised layer computes in the dtype of the others).
The two passes differ in nothing but what must not be seen: in families that keep documents apart
they give the same bits, but where experts get their tokens in another order. Where a document is
seen, random models of two layers move by more than 0.02."""


def apart(
    model: Any,
    collate: Callable[[list[Mapping[str, Any]]], Mapping[str, Any]],
    documents: Sequence[Sequence[int]],
    rows: int = 1,
    limit: int = 2 * _TOKENS,
) -> dict[str, str]:
    """The audit's entry: another first document must not move the logits of the second one.

    A family keeps packed documents apart only if it hands position_ids to the making of its
    attention mask, and has no state that runs on over a document's end. No config tells: the model
    itself is asked, as it is trained. Neither its mode nor a random state is changed.

    Args:
        collate: makes a batch of rows (input_ids, seq_lengths), as in the training.
        documents: token ids of some; two are read.
        rows: packed rows in a batch, which some attention kernels can only isolate alone.
        limit: tokens of a packed row.

    Returns:
        check, status (passed, failed, or skipped where there are no two documents) and detail.
    """
    first, second = _two(documents, max(1, min(_TOKENS, limit // 2)))
    known = sorted({*first, *second})
    if not first or not second or len(known) < 2:
        return {"check": CHECK, "status": "skipped", "detail": "there are no two documents"}
    # The same length in other tokens: every one is the next of those that there are.
    following = dict(zip(known, [*known[1:], known[0]], strict=True))
    other = [following[token] for token in first]
    with _undisturbed(model):
        found, moved = (_second(model, collate, begin, second, rows) for begin in (first, other))
    # Norms, as rounding reaches a few logits and a document that is seen reaches all of them.
    difference = float((found - moved).norm() / found.norm().clamp(min=1e-12))
    coarsest = max((p.dtype for p in model.parameters() if p.is_floating_point()), key=_eps)
    allowed = _ALLOWED.get(coarsest, _ALLOWED[torch.float32])
    return {
        "check": CHECK,
        # A difference that is no number is no proof either.
        "status": "passed" if difference <= allowed else "failed",
        "detail": f"another first document moves the second's logits by {difference:.3g} of"
        f" their size, allowed {allowed:g}",
    }


def leaking(found: Mapping[str, str], objective: str) -> StageFailed:
    """The refusal of a training whose packed documents would see one another."""
    return StageFailed(
        "packing",
        f"packed documents would see one another in this model: {found['detail']}",
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
    """Logits of the second document behind the first; (rows, tokens, vocabulary), float32."""
    packed = {"input_ids": first + second, "seq_lengths": [len(first), len(second)]}
    batch = collate([{**packed, "labels": packed["input_ids"]}] * rows)
    device = next(model.parameters()).device
    inputs = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
        if name not in ("labels", "tokens")
    }
    with autocast_of(model):  # as in the training
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits[:, -len(second) :].float().cpu()


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """In evaluation mode for a while; modes and random states are as before afterwards."""
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
