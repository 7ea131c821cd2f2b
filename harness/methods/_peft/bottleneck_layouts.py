"""Where a block's two sublayers end, by the names of transformers' architectures (no torch)."""

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
"""By `model_type` of config.json, to count before a model is loaded; each is held by a test. What
is adapted is found by structure, so that a model of another type works too."""

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")


def targets(model_type: str | None, placement: Placement) -> tuple[str, ...]:
    """The suffixes of a model type; of every known one where the type is not known.

    The names of different layouts do not overlap, so shapes alone are enough to count. Nothing is
    targeted in a model of a type that is not listed.
    """
    if model_type is not None:
        layout = LAYOUTS.get(model_type)
        return layout.targets(placement) if layout else ()
    found = (name for layout in LAYOUTS.values() for name in layout.targets(placement))
    return tuple(dict.fromkeys(found))


def residual_width(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]] | None = None
) -> int | None:
    """The width of the residual stream, from config.json or else from the input embedding."""
    own = config.get("text_config") or config
    for name in ("hidden_size", "n_embd"):
        if own.get(name):
            return int(own[name])
    found = [shape for name, shape in (shapes or {}).items() if name.endswith(_EMBEDDINGS)]
    return found[0][1] if found else None


def bottleneck_size(width: int, reduction_factor: int) -> int:
    """How many numbers the bottleneck has."""
    return max(1, width // reduction_factor)
