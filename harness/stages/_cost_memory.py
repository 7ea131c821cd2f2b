"""Memory of a training by formula: what autograd keeps, and the most that stands at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LOGITS_AT_ONCE = 32768
"""Of the vocabulary, for which a loss on a GPU makes logits at once, in float32 (TRL's chunk)."""


@dataclass(frozen=True)
class Batch:
    """What one forward and backward pass is over.

    Attributes:
        tokens: rows times their length. size: bytes of a number in the format that is computed in.
        whole: the base's own weights train. checkpointed: each layer keeps its input alone, and the
            rest is made again, a layer at a time (Chen et al., 2016, arXiv:1604.06174).
        several: passes before a step of the optimizer: gradients stand through all but the first.
    """

    tokens: int
    size: int
    whole: bool = False
    checkpointed: bool = False
    several: bool = False


def activation_bytes(config: Mapping[str, Any], batch: Batch) -> int | None:
    """Bytes that autograd keeps for one forward pass of a Llama-like decoder; None for another.

    After Korthikanti et al. (2022, arXiv:2205.05198, section 4), for attention that keeps no
    matrix. For each token and layer of hidden size h and MLP size f, with k and v of c h each:
    about 12 h + 4 f numbers in float32. In a short format norms keep float32 numbers, 8 h bytes;
    projections' inputs, which an adapter casts anew for each, 12 h; q and the attention's output
    4 h; k and v 4 c h; the gated MLP 8 f; where norms train too, 4 h more. Counted on an H100 with
    torch 2.11: 28.2 h for LoRA on Llama-2-7B's shape (c = 1), 25.1 h on Llama-3.2-1B's (c = 1/4),
    29.6 h for full there.

    Of the logits, which never stand all at once, what is kept is the gradient with respect to the
    last hidden states, in float32.
    """
    try:
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        inner = int(config["intermediate_size"])
    except (KeyError, TypeError):
        return None
    if batch.size >= 4:
        layer = 48 * hidden + 16 * inner
    else:
        heads = config.get("num_attention_heads") or 1
        share = (config.get("num_key_value_heads") or heads) / heads
        layer = int((24 + 4 * share + (4 if batch.whole else 0)) * hidden) + 8 * inner
    kept = layers * hidden * batch.size + layer if batch.checkpointed else layers * layer
    return batch.tokens * (kept + 4 * hidden)


def peak_bytes(parts: Mapping[str, int], config: Mapping[str, Any], batch: Batch) -> int | None:
    """The most bytes that stand at once in a training, on a GPU.

    Weights and the optimizer's state stand throughout. Gradients come as activations go, and are
    gone before the next step; a checkpointed layer's own gradients stand beside it. Logits of one
    pass stand while the loss is made.

    Args:
        parts: bytes of `weights`, `gradients` and `optimizer`.
    """
    kept = activation_bytes(config, batch)
    if kept is None:
        return None
    if batch.checkpointed:
        layer = activation_bytes({**config, "num_hidden_layers": 1}, batch) or 0
        kept += layer - (activation_bytes({**config, "num_hidden_layers": 0}, batch) or 0)
    logits = 4 * batch.tokens * min(int(config.get("vocab_size") or 0), _LOGITS_AT_ONCE)
    grown = kept + parts["gradients"] if batch.several else max(kept, parts["gradients"])
    return parts["weights"] + parts["optimizer"] + grown + logits
