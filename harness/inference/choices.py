"""Log-probabilities of a few choices after a context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.inference.batches import budget_batches, pad_token, padded
from harness.inference.context import context_of
from harness.inference.positions import logits_at

Asked = tuple[list[int], list[list[int]]]
"""The tokens of a context, and those of each choice that may follow it."""


def choice_log_probs(
    model: Any,
    tokenizer: Any,
    asked: Sequence[Asked],
    batch_tokens: int,
    progress: Callable[[int, int, str], None],
) -> list[list[float] | None]:
    """log P(choice | context) in nats for the choices of each context; None where one of them does
    not fit in the model's context.

    Choices that differ in their last token alone share one forward pass: for single letters, one
    pass per context is enough.
    """
    import torch

    limit = context_of(model)
    sums = [[0.0] * len(choices) for _, choices in asked]
    fits = [
        limit is None or len(context) + max(map(len, choices)) - 1 <= limit
        for context, choices in asked
    ]
    passes = list(dict.fromkeys(
        (number, tuple(choice[:-1]))
        for number, (_, choices) in enumerate(asked) if fits[number] for choice in choices
    ))  # fmt: skip
    rows = [[*asked[number][0], *head] for number, head in passes]
    done = 0
    for batch in budget_batches([len(row) for row in rows], batch_tokens):
        ids, mask = padded([rows[i] for i in batch], pad_token(tokenizer))
        chosen = torch.zeros_like(mask, dtype=torch.bool)
        for place, i in enumerate(batch):
            chosen[place, len(asked[passes[i][0]][0]) - 1 : len(rows[i])] = True
        with torch.inference_mode():
            ids, mask, chosen = (t.to(model.device) for t in (ids, mask, chosen))
            logits = logits_at(model, chosen, input_ids=ids, attention_mask=mask)
            for i, row_logits in zip(batch, logits.split(chosen.sum(1).tolist()), strict=True):
                number, head = passes[i]
                likely = row_logits.float().log_softmax(-1)
                for k, choice in enumerate(asked[number][1]):
                    if tuple(choice[:-1]) == head:
                        tokens = torch.tensor(choice, device=likely.device).unsqueeze(1)
                        sums[number][k] = float(likely.gather(1, tokens).double().sum())
        done += len(batch)
        progress(done, len(passes), "comparisons read")
    return [log_probs if fit else None for log_probs, fit in zip(sums, fits, strict=True)]
