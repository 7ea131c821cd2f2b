"""What a reward model says of answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from harness.data.render import encode
from harness.inference.batches import budget_batches, padded
from harness.inference.context import context_of


def reward_scores(
    model: Any,
    tokenizer: Any,
    texts: Sequence[tuple[Any, Any]],
    batch_tokens: int,
    progress: Callable[[int, int, str], None],
) -> list[float | None]:
    """One number for each prompt with its answer, tokenised as reward models are trained; None
    where they are longer than the model's context.

    Args:
        model: a sequence classifier of one label.
        texts: prompt and answer, both strings or both lists of messages.
    """
    import torch

    limit = context_of(model)
    rows = [encode(tokenizer, {"prompt": p, "chosen": answer})[0] for p, answer in texts]
    fits = [i for i, row in enumerate(rows) if limit is None or len(row) <= limit]
    scores: list[float | None] = [None] * len(rows)
    done = 0
    for batch in budget_batches([len(rows[i]) for i in fits], batch_tokens):
        places = [fits[i] for i in batch]
        ids, mask = padded([rows[i] for i in places], tokenizer.pad_token_id)
        with torch.inference_mode(), _precision(model):
            out = model(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                use_cache=False,
            )
        for place, score in zip(places, out.logits[:, 0].float().tolist(), strict=True):
            scores[place] = score
        done += len(places)
        progress(done, len(fits), "answers scored")
    return scores


def _precision(model: Any) -> Any:
    """Mixed precision where weights are bfloat16 and others (a head, an adapter) may not be."""
    import torch

    if any(p.dtype == torch.bfloat16 for p in model.parameters()):
        return torch.autocast(model.device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
