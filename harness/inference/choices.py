"""How likely a model finds each of a few ways to go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.inference.batches import budget_batches, pad_token, padded
from harness.inference.context import context_of
from harness.inference.positions import logits_at

Asked = tuple[list[int], list[list[int]]]
"""Tokens of a context, and the tokens of each choice after it."""


def choice_log_probs(
    model: Any,
    tokenizer: Any,
    asked: Sequence[Asked],
    batch_tokens: int,
    progress: Callable[[int, int, str], None],
) -> list[list[float] | None]:
    """log P(choice | context), in nats, of each context's choices; None for those that are longer
    than the model's context.

    Choices alike but for their last token share one forward pass: letters take one a context.
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
            for i, own_logits in zip(batch, logits.split(chosen.sum(1).tolist()), strict=True):
                number, head = passes[i]
                likely = own_logits.float().log_softmax(-1)
                for k, choice in enumerate(asked[number][1]):
                    if tuple(choice[:-1]) == head:
                        own = torch.tensor(choice, device=likely.device).unsqueeze(1)
                        sums[number][k] = float(likely.gather(1, own).double().sum())
        done += len(batch)
        progress(done, len(passes), "comparisons read")
    return [own if fit else None for own, fit in zip(sums, fits, strict=True)]
