"""Log-probabilities of a few choices after a context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.inference.batches import counted, pad_token
from harness.inference.context import context_of
from harness.inference.token_scores import Asked, score_tokens

Choices = tuple[list[int], list[list[int]]]
"""The tokens of a context, and those of each choice that may follow it."""


def choice_log_probs(
    model: Any,
    tokenizer: Any,
    contests: Sequence[Choices],
    batch_tokens: int,
    progress: Callable[[int, int, str], None],
) -> list[list[float] | None]:
    """log P(choice | context) in nats for the choices of each context; None where one of them does
    not fit in the model's context.

    Choices that differ in their last token alone share one forward pass.
    """
    limit = context_of(model)
    fits = [
        limit is None or len(context) + max(map(len, choices)) - 1 <= limit
        for context, choices in contests
    ]
    asked = [
        Asked([*context, *choice], len(choice))
        for (context, choices), fit in zip(contests, fits, strict=True) if fit
        for choice in choices
    ]  # fmt: skip
    done = counted(progress, sum(each.count for each in asked), "tokens compared")
    scores = iter(score_tokens(model, asked, batch_tokens, pad_token(tokenizer), progress=done))
    return [
        [next(scores).log_prob for _ in choices] if fit else None
        for (_, choices), fit in zip(contests, fits, strict=True)
    ]
