"""Exact log-likelihoods of answers and texts, and divergences from the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.core.errors import ModelError, StageFailed
from harness.data.encode import bare_ids
from harness.data.render import encode, require_rows
from harness.inference.batches import counted, pad_token
from harness.inference.context import context_of
from harness.inference.token_scores import Asked, compare_tokens, score_tokens

if TYPE_CHECKING:
    from torch import Tensor


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

    def measure(asked: list[Asked], done: Done) -> list[float]:
        scores = score_tokens(model, asked, batch_tokens, pad_token(tokenizer), progress=done)
        return [-score.log_prob for score in scores]

    written = _after_prefix if every_token else encode
    results = _over_windows(model, tokenizer, rows, max_length, stride, progress, measure, written)
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

    def divergence(logits: Tensor, base_logits: Tensor) -> Tensor:
        if logits.shape != base_logits.shape:
            raise StageFailed(
                "other tokens",
                f"the model has {logits.shape[-1]} tokens and its base {base_logits.shape[-1]}:"
                " there is no divergence between their distributions",
                fix="leave `kl` or the checkpoint out",
            )
        first, second = (base_logits, logits) if from_base else (logits, base_logits)
        return _divergence(first, second)

    def measure(asked: list[Asked], done: Done) -> list[float]:
        pad = pad_token(tokenizer)
        return compare_tokens(model, base, asked, batch_tokens, pad, divergence, done)

    results = _over_windows(model, tokenizer, rows, max_length, stride, progress, measure)
    return [{**keys, "kl": kl, "tokens": float(count)} for keys, kl, count in results]


Done = Callable[[int], None]
"""Is told how many more tokens have been scored."""


def _over_windows(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    max_length: int,
    stride: int,
    progress: Callable[[int, int, str], None],
    measure: Callable[[list[Asked], Done], list[float]],
    written: Callable[[Any, Mapping[str, Any]], tuple[list[int], int]] = encode,
) -> Iterator[tuple[dict[str, Any], float, int]]:
    """Each row's keys, the sum of `measure` over its windows, and its number of scored tokens.

    Args:
        measure: all windows -> an amount for each.
        written: (tokenizer, row) -> the row's tokens, and the index of the first scored token.
    """
    require_rows(rows)
    limit, step = window_of(context_of(model), max_length, stride)
    windows = [list(_windows(*written(tokenizer, row), limit, step)) for row in rows]
    asked = [window for own in windows for window in own]
    total = sum(window.count for window in asked)
    amounts = iter(measure(asked, counted(progress, total, "tokens scored")))
    for row, own in zip(rows, windows, strict=True):
        keys = {"example_id": row["id"], "cluster": row["cluster"], "group": row["group"]}
        total_amount = sum((next(amounts) for _ in own), 0.0)
        yield keys, total_amount, sum(window.count for window in own)


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


def _windows(ids: list[int], start: int, limit: int, stride: int) -> Iterator[Asked]:
    """Cut one sequence into windows; every token from `start` on is scored exactly once."""
    start = max(start, 1)
    if len(ids) <= start:
        return  # there are no tokens to score
    if len(ids) <= limit:
        yield Asked(ids, len(ids) - start)
        return
    # For any stride, the first window holds the token before the first scored one.
    scored, begin = start, max(0, min(start - 1, start - (limit - stride)))
    while scored < len(ids):
        end = min(begin + limit, len(ids))
        yield Asked(ids[begin:end], end - scored)
        scored, begin = end, begin + stride
        begin = min(begin, scored - 1)


_POSITIONS = 512
"""Positions whose distributions over the vocabulary are compared at once, to limit memory."""


def _divergence(logits: Tensor, other_logits: Tensor) -> Tensor:
    """KL(p || q) in nats at each place, (places,), where both logits are (places, vocabulary)."""
    import torch

    parts = []
    for p, q in zip(logits.split(_POSITIONS), other_logits.split(_POSITIONS), strict=True):
        log_p, log_q = (x.float().log_softmax(-1) for x in (p, q))
        parts.append((log_p.exp() * (log_p - log_q)).sum(-1))
    # A divergence is never negative; rounding may put one of 0 a little below.
    return torch.cat(parts).clamp(min=0)
