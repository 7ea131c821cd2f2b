"""Where a block's two sublayers end, by the names of transformers' architectures (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
}
"""By `model_type` of config.json; each is held by a test."""

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


def matches(module: str, suffixes: Iterable[str]) -> bool:
    """Whether a module is targeted, by PEFT's rule for names."""
    return any(module == suffix or module.endswith(f".{suffix}") for suffix in suffixes)


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
