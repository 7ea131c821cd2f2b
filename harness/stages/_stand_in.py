"""A model for trainers that prepare rows and compute nothing."""

from __future__ import annotations

from typing import Any


def stand_in() -> Any:
    """The smallest model a trainer takes: how rows are prepared depends on the tokenizer alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=1, num_key_value_heads=1,
            bos_token_id=None, eos_token_id=None, pad_token_id=None,
        )
    )  # fmt: skip
