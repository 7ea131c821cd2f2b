"""Where a block's two sublayers end, by the layer names of known architectures (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Placement = Literal["houlsby", "pfeiffer"]


class Layout(NamedTuple):
    """The projections whose output enters the residual stream, as suffixes of module names."""

    attention: str
    feed_forward: str

    def targets(self, placement: Placement) -> tuple[str, ...]:
        """The projections that get an adapter."""
        return self if placement == "houlsby" else (self.feed_forward,)


_LLAMA = Layout("self_attn.o_proj", "mlp.down_proj")
LAYOUTS: dict[str, Layout] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3": _LLAMA,
    "gemma3_text": _LLAMA,
    "olmo2": _LLAMA,
    "phi3": _LLAMA,
    "gpt2": Layout("attn.c_proj", "mlp.c_proj"),
    "gpt_neox": Layout("attention.dense", "mlp.dense_4h_to_h"),
    "falcon": Layout("self_attention.dense", "mlp.dense_4h_to_h"),
    "phi": Layout("self_attn.dense", "mlp.fc2"),
    "opt": Layout("self_attn.out_proj", "fc2"),
    "starcoder2": Layout("self_attn.o_proj", "mlp.c_proj"),
    "stablelm": _LLAMA,
    "cohere": _LLAMA,
    "smollm3": _LLAMA,
    "granite": _LLAMA,
    "gptj": Layout("attn.out_proj", "mlp.fc_out"),
    "gpt_neo": Layout("attn.attention.out_proj", "mlp.c_proj"),
}
"""`model_type` of config.json -> layout, used to count parameters before a model is loaded; a test
checks each entry. The layers to adapt are found by the model's structure, so models of other types
work too."""

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")


def targets(model_type: str | None, placement: Placement) -> tuple[str, ...]:
    """The suffixes for a model type: all known suffixes if the type is None, none if the type is
    not listed.

    The names of different layouts do not overlap, so all of them together count correctly.
    """
    if model_type is not None:
        layout = LAYOUTS.get(model_type)
        return layout.targets(placement) if layout else ()
    suffixes = (name for layout in LAYOUTS.values() for name in layout.targets(placement))
    return tuple(dict.fromkeys(suffixes))


def residual_width(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]] | None = None
) -> int | None:
    """The width of the residual stream, from config.json or else from the input embedding."""
    fields = config.get("text_config") or config
    for name in ("hidden_size", "n_embd"):
        if fields.get(name):
            return int(fields[name])
    embeddings = [shape for name, shape in (shapes or {}).items() if name.endswith(_EMBEDDINGS)]
    return embeddings[0][1] if embeddings else None


def bottleneck_size(width: int, reduction_factor: int) -> int:
    """The width of the bottleneck."""
    return max(1, width // reduction_factor)
