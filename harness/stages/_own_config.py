"""Restores the model's config after a trainer has changed it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def own_config(model: Any) -> Iterator[None]:
    """Give a model back the config that it came with.

    Trainers set flags for their own forward passes (router logits for a mixture's balance, no cache
    under gradient checkpointing). A checkpoint that keeps them trains or answers otherwise.
    """
    from transformers import PreTrainedConfig

    held = (getattr(module, "config", None) for module in model.modules())
    by_identity = {id(config): config for config in held if isinstance(config, PreTrainedConfig)}
    configs = list(by_identity.values())
    before = [dict(vars(config)) for config in configs]
    try:
        yield
    finally:
        for config, fields in zip(configs, before, strict=True):
            vars(config).clear()
            vars(config).update(fields)
