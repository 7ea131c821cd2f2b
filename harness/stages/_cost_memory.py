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
        whole: the base's own weights train. inputs: what trains stands beside the base's linear
            layers (or is these), and keeps their inputs. beside: numbers a token that a method's
            own layers keep. checkpointed: each layer keeps its input alone, and the
            rest is made again, a layer at a time (Chen et al., 2016, arXiv:1604.06174).
        several: passes before a step of the optimizer: gradients stand through all but the first.
        raised: what passes between layers is float32, while layers compute in a short format.
    """

    tokens: int
    size: int
    whole: bool = False
    inputs: bool = True
    beside: int = 0
    checkpointed: bool = False
    several: bool = False
    raised: bool = False


def activation_bytes(config: Mapping[str, Any], batch: Batch) -> int | None:
    """Bytes that autograd keeps for one forward pass of a Llama-like decoder; None for another.

    After Korthikanti et al. (2022, arXiv:2205.05198, section 4), for attention that keeps no
    matrix. Numbers for each token and layer of hidden size h and MLP size f, with k and v of c h
    each, in float32: norms 2 h, and 2 h more where they train; q and the attention's output 2 h; k
    and v 2 c h; the gated MLP 3 f; inputs of the linear layers 2 h + f, where something beside them
    trains. In a short format norms keep float32 numbers, 8 h bytes, and 4 h more where they train;
    inputs, which an adapter casts anew for each layer, 12 h + 2 f; q and the attention's output
    4 h; k and v 4 c h; the gated MLP 6 f. Counted on an H100 with torch 2.11: 28.2 h for LoRA on
    Llama-2-7B's shape (c = 1), 25.1 h on Llama-3.2-1B's (c = 1/4), 29.6 h for full there. Where
    4-bit layers give back the float32 that they are given, the MLP keeps 12 f.

    Of the logits, which never stand all at once, what is kept is the gradient with respect to the
    last hidden states, in float32. In float32 these states themselves stand beside it, before and
    after the norm and once more for the loss.
    """
    try:
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        inner = int(config["intermediate_size"])
    except (KeyError, TypeError):
        return None
    heads = config.get("num_attention_heads") or 1
    share = (config.get("num_key_value_heads") or heads) / heads
    inputs, norms = int(batch.inputs), int(batch.whole)
    between = 4 if batch.raised else batch.size
    if batch.size >= 4:
        layer = (
            4 * int((4 + 2 * share + 2 * inputs + 2 * norms) * hidden) + 4 * (3 + inputs) * inner
        )
        head = 16 * hidden
    else:
        layer = int((12 + 4 * share + 12 * inputs + 4 * norms) * hidden)
        layer += (3 * between + 2 * inputs) * inner
        head = 4 * hidden
    beside = batch.size * batch.beside
    if batch.checkpointed:
        kept = layers * hidden * between + layer + beside // max(1, layers)
    else:
        kept = layers * layer + beside
    return batch.tokens * (kept + head)


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
