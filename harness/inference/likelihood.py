"""Exact log-likelihoods of answers and texts."""

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
    *,
    every_token: bool = False,
) -> list[dict[str, Any]]:
    """Negative log-likelihood (nats) and count of each row's scored tokens, in the rows' order.

    The first token of a sequence has no probability and is not counted.

    Args:
        every_token: put the token that begins sequences (else the one that ends them) before texts,
            so that each of their tokens has one, as lm-eval's loglikelihood_rolling does.

    Raises:
        ModelError: `every_token`, and the tokenizer has neither.
    """

    def measure(batch: list[Window]) -> list[tuple[float, int]]:
        return _score(model, tokenizer, batch)

    written = _after_prefix if every_token else encode
    found = _over_windows(
        model, tokenizer, rows, max_length, stride, batch_tokens, progress, measure, written
    )
    return [{**keys, "nll": nll, "tokens": float(count)} for keys, nll, count in found]


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
    """Sum over each row's scored tokens of the Kullback-Leibler divergence (nats) between the two
    models' distributions of the next token, and their count.

    Both read the text as it is given; nothing is sampled.

    Args:
        from_base: KL(base || model); else KL(model || base).
    """

    def measure(batch: list[Window]) -> list[tuple[float, int]]:
        return _diverge(model, base, tokenizer, batch, from_base=from_base)

    found = _over_windows(
        model, tokenizer, rows, max_length, stride, batch_tokens, progress, measure
    )
    return [{**keys, "kl": kl, "tokens": float(count)} for keys, kl, count in found]


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
    """Each row's keys with what `measure` gave its windows, summed, and the tokens counted.

    Args:
        written: (tokenizer, row) -> its tokens, and which of them is the first to be scored.
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
    """The window that is really used, and the step it moves by.

    A model's context that cuts the window cuts the step by the same share: a step of half a window
    stays one, and every token keeps that share of a window before it.
    """
    limit = max_length if context is None else min(max_length, context)
    return limit, max(1, stride * limit // max_length)


def _after_prefix(tokenizer: Any, row: Mapping[str, Any]) -> tuple[list[int], int]:
    """A row's tokens, of a text after a token that is not the text's own."""
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
        return  # nothing stands after the first token
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


_POSITIONS = 512
"""Positions whose distributions are normalised at once: each is of the whole vocabulary."""


def _score(model: Any, tokenizer: Any, batch: list[Window]) -> list[tuple[float, int]]:
    """Sum of nats and number of tokens for each window."""
    import torch

    ids, mask, scored = _tensors(model, tokenizer, batch)
    with torch.inference_mode():
        logits, targets = _logits(model, ids, mask, scored), ids[:, 1:][scored]
        losses = [
            torch.nn.functional.cross_entropy(part.float(), own, reduction="none")
            for part, own in zip(logits.split(_POSITIONS), targets.split(_POSITIONS), strict=True)
        ]
    return _sums(torch.cat(losses), scored)


def _diverge(
    model: Any, base: Any, tokenizer: Any, batch: list[Window], *, from_base: bool
) -> list[tuple[float, int]]:
    """Sum of divergences and number of tokens for each window."""
    import torch

    ids, mask, scored = _tensors(model, tokenizer, batch)
    with torch.inference_mode():
        own, other = (_logits(each, ids, mask, scored) for each in (model, base))
        if own.shape != other.shape:
            raise StageFailed(
                "other tokens",
                f"the model has {own.shape[-1]} tokens and its base {other.shape[-1]}: there is no"
                " divergence between their distributions",
                fix="leave `kl` or the checkpoint out",
            )
        parts = []
        for p, q in zip(own.split(_POSITIONS), other.split(_POSITIONS), strict=True):
            first, second = (q, p) if from_base else (p, q)
            log_first, log_second = (x.float().log_softmax(-1) for x in (first, second))
            parts.append((log_first.exp() * (log_first - log_second)).sum(-1))
        # Rounding may leave a divergence of nothing a little below 0, where it cannot be.
        found = torch.cat(parts).clamp(min=0)
    return _sums(found, scored)


def _tensors(model: Any, tokenizer: Any, batch: list[Window]) -> tuple[Any, Any, Any]:
    """Ids, mask and which predictions are scored (right padding, which causal models never see)."""
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
    """Logits that predict the scored tokens, (scored, vocabulary), row by row."""
    import torch

    chosen = torch.nn.functional.pad(scored, (0, 1))
    return logits_at(model, chosen, input_ids=ids, attention_mask=mask)


def _sums(amounts: Any, scored: Any) -> list[tuple[float, int]]:
    counts = scored.sum(1).tolist()
    sums = [part.double().sum().item() for part in amounts.split(counts)]
    return list(zip(sums, counts, strict=True))
