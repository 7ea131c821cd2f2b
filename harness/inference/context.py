"""How many tokens a model has room for."""

from __future__ import annotations

from typing import Any


def context_of(model: Any) -> int | None:
    """Tokens of text that fit in the model's context; None where its config states no limit.

    A learned prompt takes its places (PEFT's `num_virtual_tokens`), and text has the rest.
    """
    places = getattr(model.config, "max_position_embeddings", None)
    if places is None:
        return None
    adapter = getattr(model, "active_peft_config", None) if hasattr(model, "peft_config") else None
    return int(places) - int(getattr(adapter, "num_virtual_tokens", None) or 0)
