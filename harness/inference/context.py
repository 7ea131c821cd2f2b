"""The length of a model's context."""

from __future__ import annotations

from typing import Any


def context_of(model: Any) -> int | None:
    """Number of text tokens that fit in the model's context; None if its config states no limit.

    A learned prompt takes `num_virtual_tokens` (PEFT) positions of the context.
    """
    places = getattr(model.config, "max_position_embeddings", None)
    if places is None:
        return None
    adapter = getattr(model, "active_peft_config", None) if hasattr(model, "peft_config") else None
    return int(places) - int(getattr(adapter, "num_virtual_tokens", None) or 0)
