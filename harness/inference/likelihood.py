"""Exact log-likelihoods of answers and texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.data.render import encode, require_rows
from harness.inference.context import context_of


@dataclass(frozen=True)
class Window:
    """Tokens of one forward pass, of which those from `start` on are scored."""

    row: int
    ids: list[int]
    start: int


def log_likelihoods(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    max_length: int,
    stride: int,
    batch_tokens: int,
    progress: Callable[[int, int, str], None],
) -> list[dict[str, Any]]:
    """Negative log-likelihood (nats) and count of each row's scored tokens, in the rows' order.

    The first token of a sequence has no probability and is not counted.
    """
    require_rows(rows)
    context = context_of(model)
    limit = max_length if context is None else min(max_length, context)
    windows: list[Window] = []
    for index, row in enumerate(rows):
        ids, start = encode(tokenizer, row)
        windows += _windows(index, ids, start, limit, min(stride, limit))
    totals = [[0.0, 0] for _ in rows]
    finished = 0
    for batch in _batches(windows, batch_tokens):
        for window, (nll, count) in zip(batch, _score(model, tokenizer, batch), strict=True):
            totals[window.row][0] += nll
            totals[window.row][1] += count
        finished += len(batch)
        progress(finished, len(windows), "windows scored")
    return [
        {
            "example_id": row["id"],
            "cluster": row["cluster"],
            "group": row["group"],
            "nll": nll,
            "tokens": float(count),
        }
        for row, (nll, count) in zip(rows, totals, strict=True)
    ]


def _windows(row: int, ids: list[int], start: int, limit: int, stride: int) -> Iterator[Window]:
    """Cut one sequence into windows; every token from `start` on is scored exactly once."""
    start = max(start, 1)
    if len(ids) <= limit:
        yield Window(row, ids, start)
        return
    # The first window holds the token before the first scored one, whatever the stride.
    scored, begin = start, max(0, min(start - 1, start - (limit - stride)))
    while scored < len(ids):
        end = min(begin + limit, len(ids))
        yield Window(row, ids[begin:end], scored - begin)
        scored, begin = end, begin + stride
        begin = min(begin, scored - 1)


def _batches(windows: list[Window], budget: int) -> Iterator[list[Window]]:
    """Windows of like length together, within a budget of padded tokens."""
    ordered = sorted(windows, key=lambda w: (-len(w.ids), w.row))
    while ordered:
        size = max(1, budget // len(ordered[0].ids))
        yield list(itertools.islice(ordered, size))
        ordered = ordered[size:]


def _score(model: Any, tokenizer: Any, batch: list[Window]) -> list[tuple[float, int]]:
    """Sum of nats and number of tokens for each window (right padding, which causal models never
    see)."""
    import torch

    longest = max(len(window.ids) for window in batch)
    ids = torch.full((len(batch), longest), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    scored = torch.zeros((len(batch), longest - 1), dtype=torch.bool)
    for i, window in enumerate(batch):
        ids[i, : len(window.ids)] = torch.tensor(window.ids)
        mask[i, : len(window.ids)] = 1
        scored[i, window.start - 1 : len(window.ids) - 1] = True
    ids, mask, scored = (t.to(model.device) for t in (ids, mask, scored))
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        logits = found[:, -longest:-1]  # a soft prompt's own logits stand before the row's
        losses = torch.nn.functional.cross_entropy(
            logits[scored].float(), ids[:, 1:][scored], reduction="none"
        )
    counts = scored.sum(1).tolist()
    sums = [part.double().sum().item() for part in losses.split(counts)]
    return list(zip(sums, counts, strict=True))
