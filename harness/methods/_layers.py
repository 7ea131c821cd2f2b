"""The layers of a loaded model that can carry an adapter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from harness.models.layers import Layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CLASSIFIERS = ("score", "classifier")


def loaded_layers(base: PreTrainedModel) -> dict[str, Layer]:
    """Linear layers, embeddings and the head of the part that reads text, by module name."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = base.get_output_embeddings()
    outside = tuple(f"{name}." for name in beside_text(base))
    layers: dict[str, Layer] = {}
    for name, module in base.named_modules():
        if f"{name}.".startswith(outside) or is_router(module):
            continue
        if isinstance(module, torch.nn.Embedding):
            rows, width = module.weight.shape
            layers[name] = Layer(rows, width, "embedding")
        elif isinstance(module, torch.nn.Linear):
            last = module is head or name in _CLASSIFIERS
            sizes = module.in_features, module.out_features
            layers[name] = Layer(*sizes, "head" if last else "linear")
        elif isinstance(module, Conv1D):
            layers[name] = Layer(module.weight.shape[0], module.nf)
    return layers


def is_router(module: Any) -> bool:
    """Whether a module is a router of experts whose class is a subclass of torch's Linear.

    So in Phi-3.5-MoE and Llama 4. Its output chooses experts: an adapter on it breaks the model.
    """
    import torch

    kind = type(module)
    overrides_forward = kind.forward is not torch.nn.Linear.forward
    return isinstance(module, torch.nn.Linear) and overrides_forward and "Router" in kind.__name__


def beside_text(base: Any) -> list[str]:
    """Names of the outermost modules that process images or sound only, and no text."""
    if base.config.get_text_config() is base.config:
        return []
    kept = [base.get_decoder(), base.get_input_embeddings(), base.get_output_embeddings()]
    names = {id(module): name for name, module in base.named_modules()}
    inside = [names[id(module)] for module in kept if id(module) in names]
    return [] if "" in inside else list(_outside(base, "", inside))


def _outside(module: Any, prefix: str, inside: list[str]) -> Iterator[str]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if any(path == kept or path.startswith(f"{kept}.") for kept in inside):
            continue
        if any(kept.startswith(f"{path}.") for kept in inside):
            yield from _outside(child, f"{path}.", inside)
        elif any(True for _ in child.parameters()):
            yield path


def excluded(base: Any, patterns: str | list[str] | None) -> str | list[str] | None:
    """PEFT's `exclude_modules`: `patterns`, all modules that process no text, and the routers that
    subclass torch's Linear.

    Args:
        patterns: module names, or one regular expression over whole names.
    """
    others = [rf"{re.escape(name)}(\..*)?" for name in beside_text(base)]
    others += [re.escape(name) for name, module in base.named_modules() if is_router(module)]
    towers = "|".join(others)
    if not towers:
        return patterns
    if isinstance(patterns, list):
        patterns = "|".join(rf"(.*\.)?{re.escape(name)}" for name in patterns)
    return f"{patterns}|{towers}" if patterns else towers
