"""How likely a model finds each of a few ways to go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.inference.batches import budget_batches, pad_token, padded
from harness.inference.context import context_of

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
        with torch.inference_mode():
            logits = model(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                use_cache=False,
            ).logits
            for place, i in enumerate(batch):
                number, head = passes[i]
                start = len(asked[number][0]) - 1
                likely = logits[place, start : len(rows[i])].float().log_softmax(-1)
                for k, choice in enumerate(asked[number][1]):
                    if tuple(choice[:-1]) == head:
                        own = torch.tensor(choice, device=likely.device).unsqueeze(1)
                        sums[number][k] = float(likely.gather(1, own).double().sum())
        done += len(batch)
        progress(done, len(passes), "comparisons read")
    return [own if fit else None for own, fit in zip(sums, fits, strict=True)]
