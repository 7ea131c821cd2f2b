"""Exact log-likelihoods of answers and texts, and divergences from the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import ModelError, StageFailed
from harness.data.encode import bare_ids
from harness.data.render import encode, require_rows
from harness.inference.batches import budget_batches, pad_token, within_logits
from harness.inference.context import context_of
from harness.inference.positions import logits_at


@dataclass(frozen=True)
class Window:
    """The tokens of one forward pass of a row; those from `start` on are scored."""

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
    *,
    every_token: bool = False,
) -> list[dict[str, Any]]:
    """Negative log-likelihood (nats) and number of each row's scored tokens, in the rows' order.

    The first token of a sequence has no probability and is not counted.

    Args:
        every_token: put the tokenizer's begin token (or else its end token) before each text, so
            that every token of the text has a probability, as lm-eval's loglikelihood_rolling does.

    Returns:
        Dictionaries with `nll`, `tokens` and the row's example_id, cluster and group.

    Raises:
        ModelError: `every_token` is set, and the tokenizer has neither token.
    """

    def measure(batch: list[Window]) -> list[tuple[float, int]]:
        return _score(model, tokenizer, batch)

    written = _after_prefix if every_token else encode
    results = _over_windows(
        model, tokenizer, rows, max_length, stride, batch_tokens, progress, measure, written
    )
    return [{**keys, "nll": nll, "tokens": float(count)} for keys, nll, count in results]


def divergences(
    model: Any,
    base: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    max_length: int,
    stride: int,
    batch_tokens: int,
    progress: Callable[[int, int, str], None],
    *,
    from_base: bool,
) -> list[dict[str, Any]]:
    """Kullback-Leibler divergence (nats) between the next-token distributions of two models.

    It is summed over each row's scored tokens. Both models read the row's text; nothing is sampled.

    Args:
        from_base: compute KL(base || model) instead of KL(model || base).

    Returns:
        Dictionaries with `kl`, `tokens` (the number of scored tokens) and the row's example_id,
        cluster and group.

    Raises:
        StageFailed: the two models have vocabularies of different sizes.
    """

    def measure(batch: list[Window]) -> list[tuple[float, int]]:
        return _diverge(model, base, tokenizer, batch, from_base=from_base)

    results = _over_windows(
        model, tokenizer, rows, max_length, stride, batch_tokens, progress, measure
    )
    return [{**keys, "kl": kl, "tokens": float(count)} for keys, kl, count in results]


def _over_windows(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    max_length: int,
    stride: int,
    batch_tokens: int,
    progress: Callable[[int, int, str], None],
    measure: Callable[[list[Window]], list[tuple[float, int]]],
    written: Callable[[Any, Mapping[str, Any]], tuple[list[int], int]] = encode,
) -> Iterator[tuple[dict[str, Any], float, int]]:
    """Each row's keys, the sum of `measure` over its windows, and its number of scored tokens.

    Args:
        measure: a batch of windows -> (sum, number of scored tokens) of each.
        written: (tokenizer, row) -> the row's tokens, and the index of the first scored token.
    """
    require_rows(rows)
    limit, step = window_of(context_of(model), max_length, stride)
    windows: list[Window] = []
    for index, row in enumerate(rows):
        ids, start = written(tokenizer, row)
        windows += _windows(index, ids, start, limit, step)
    totals, counts = [0.0] * len(rows), [0] * len(rows)
    finished = 0
    budget = within_logits(model, batch_tokens)
    for chosen in budget_batches([len(window.ids) for window in windows], budget):
        batch = [windows[i] for i in chosen]
        for window, (amount, count) in zip(batch, measure(batch), strict=True):
            totals[window.row] += amount
            counts[window.row] += count
        finished += len(batch)
        progress(finished, len(windows), "windows scored")
    for row, total, count in zip(rows, totals, counts, strict=True):
        yield {
            "example_id": row["id"], "cluster": row["cluster"], "group": row["group"],
        }, total, count  # fmt: skip


def window_of(context: int | None, max_length: int, stride: int) -> tuple[int, int]:
    """The window length and stride in tokens, limited by the model's context.

    If the context shortens the window, it shortens the stride by the same ratio, so that the
    overlap of two windows stays the same share of a window.
    """
    limit = max_length if context is None else min(max_length, context)
    return limit, max(1, stride * limit // max_length)


def _after_prefix(tokenizer: Any, row: Mapping[str, Any]) -> tuple[list[int], int]:
    """A row's tokens; a text gets a begin or end token before it."""
    if "text" not in row:
        return encode(tokenizer, row)
    prefix = tokenizer.bos_token_id
    prefix = tokenizer.eos_token_id if prefix is None else prefix
    if prefix is None:
        raise ModelError(
            "the tokenizer has no token that begins or ends a sequence, so that a text's first"
            " token has no likelihood",
            fix="score rows of prompt and completion, or use `perplexity`",
        )
    return [prefix, *bare_ids(tokenizer, row["text"])], 1


def _windows(row: int, ids: list[int], start: int, limit: int, stride: int) -> Iterator[Window]:
    """Cut one sequence into windows; every token from `start` on is scored exactly once."""
    start = max(start, 1)
    if len(ids) <= start:
        return  # there are no tokens to score
    if len(ids) <= limit:
        yield Window(row, ids, start)
        return
    # For any stride, the first window holds the token before the first scored one.
    scored, begin = start, max(0, min(start - 1, start - (limit - stride)))
    while scored < len(ids):
        end = min(begin + limit, len(ids))
        yield Window(row, ids[begin:end], scored - begin)
        scored, begin = end, begin + stride
        begin = min(begin, scored - 1)


_POSITIONS = 512
"""Positions whose distributions over the vocabulary are normalised at once, to limit memory."""


def _score(model: Any, tokenizer: Any, batch: list[Window]) -> list[tuple[float, int]]:
    """Sum of nats and number of tokens for each window."""
    import torch

    ids, mask, scored = _tensors(model, tokenizer, batch)
    with torch.inference_mode():
        logits, targets = _logits(model, ids, mask, scored), ids[:, 1:][scored]
        losses = [
            torch.nn.functional.cross_entropy(part.float(), wanted, reduction="none")
            for part, wanted in zip(
                logits.split(_POSITIONS), targets.split(_POSITIONS), strict=True
            )
        ]
    return _sums(torch.cat(losses), scored)


def _diverge(
    model: Any, base: Any, tokenizer: Any, batch: list[Window], *, from_base: bool
) -> list[tuple[float, int]]:
    """Sum of divergences and number of tokens for each window."""
    import torch

    ids, mask, scored = _tensors(model, tokenizer, batch)
    with torch.inference_mode():
        logits, base_logits = (_logits(each, ids, mask, scored) for each in (model, base))
        if logits.shape != base_logits.shape:
            raise StageFailed(
                "other tokens",
                f"the model has {logits.shape[-1]} tokens and its base {base_logits.shape[-1]}:"
                " there is no divergence between their distributions",
                fix="leave `kl` or the checkpoint out",
            )
        parts = []
        for p, q in zip(logits.split(_POSITIONS), base_logits.split(_POSITIONS), strict=True):
            first, second = (q, p) if from_base else (p, q)
            log_first, log_second = (x.float().log_softmax(-1) for x in (first, second))
            parts.append((log_first.exp() * (log_first - log_second)).sum(-1))
        # A divergence is never negative; rounding may put one of 0 a little below.
        kl = torch.cat(parts).clamp(min=0)
    return _sums(kl, scored)


def _tensors(model: Any, tokenizer: Any, batch: list[Window]) -> tuple[Any, Any, Any]:
    """Token ids and attention mask, (windows, longest), and a mask of the scored predictions,
    (windows, longest - 1). Rows are padded on the right, which no causal model attends to."""
    import torch

    longest = max(len(window.ids) for window in batch)
    ids = torch.full((len(batch), longest), pad_token(tokenizer))
    mask = torch.zeros_like(ids)
    scored = torch.zeros((len(batch), longest - 1), dtype=torch.bool)
    for i, window in enumerate(batch):
        ids[i, : len(window.ids)] = torch.tensor(window.ids)
        mask[i, : len(window.ids)] = 1
        scored[i, window.start - 1 : len(window.ids) - 1] = True
    ids, mask, scored = (t.to(model.device) for t in (ids, mask, scored))
    return ids, mask, scored


def _logits(model: Any, ids: Any, mask: Any, scored: Any) -> Any:
    """Logits that predict the scored tokens, (scored tokens, vocabulary), row by row."""
    import torch

    chosen = torch.nn.functional.pad(scored, (0, 1))
    return logits_at(model, chosen, input_ids=ids, attention_mask=mask)


def _sums(amounts: Any, scored: Any) -> list[tuple[float, int]]:
    counts = scored.sum(1).tolist()
    sums = [part.double().sum().item() for part in amounts.split(counts)]
    return list(zip(sums, counts, strict=True))
