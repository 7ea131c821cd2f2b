"""The layers of a loaded model that an adapter can go on."""

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
    found: dict[str, Layer] = {}
    for name, module in base.named_modules():
        if f"{name}.".startswith(outside) or is_router(module):
            continue
        if isinstance(module, torch.nn.Embedding):
            rows, width = module.weight.shape
            found[name] = Layer(rows, width, "embedding")
        elif isinstance(module, torch.nn.Linear):
            last = module is head or name in _CLASSIFIERS
            sizes = module.in_features, module.out_features
            found[name] = Layer(*sizes, "head" if last else "linear")
        elif isinstance(module, Conv1D):
            found[name] = Layer(module.weight.shape[0], module.nf)
    return found


def is_router(module: Any) -> bool:
    """Whether a module is a router of experts whose class is a kind of linear layer, and which
    gives no numbers but which experts to ask (Phi-3.5-MoE, Llama 4): an adapter on it breaks it."""
    import torch

    kind = type(module)
    own = kind.forward is not torch.nn.Linear.forward
    return isinstance(module, torch.nn.Linear) and own and "Router" in kind.__name__


def beside_text(base: Any) -> list[str]:
    """The largest modules of a model that see or hear, and have no part in reading text."""
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


def excluded(base: Any, given: str | list[str] | None) -> str | list[str] | None:
    """PEFT's `exclude_modules`: those that are given, all that does not read text, and routers that
    are linear layers by their class alone."""
    others = [rf"{re.escape(name)}(\..*)?" for name in beside_text(base)]
    others += [re.escape(name) for name, module in base.named_modules() if is_router(module)]
    towers = "|".join(others)
    if not towers:
        return given
    if isinstance(given, list):
        given = "|".join(rf"(.*\.)?{re.escape(name)}" for name in given)
    return f"{given}|{towers}" if given else towers
