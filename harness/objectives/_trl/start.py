"""The starting checkpoint as the reference of TRL's trainers, and nothing of it left afterwards."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch

REFERENCE = "ref"
"""TRL's name for its copy of an adapter."""


class NoReference(torch.nn.Identity):
    """Given to TRL as the reference where it needs none (for None it would copy the model)."""


def reference_model(model: Any) -> Any:
    """A frozen copy of the model as it is; None for an adapter that TRL copies itself.

    Without it TRL would load the model's folder again: the base, where training starts from an SFT.
    A learned prompt is copied here, as its copy inside one model takes its place (p-tuning) or is
    refused for its name (prefix tuning). What does not train is shared, not copied.
    """
    if hasattr(model, "peft_config") and not model.peft_config["default"].is_prompt_learning:
        return None
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, shared).requires_grad_(False).eval()


@contextlib.contextmanager
def as_it_is(model: Any, trainers: Any) -> Iterator[None]:
    """Make a trainer on the start, and let TRL leave it as it is.

    Its copy of an adapter is added without an initialisation that changes the base (PiSSA, OLoRA),
    is a copy of every tensor, and in their dtypes: bfloat16 on a 4-bit base, where PEFT would take
    float32.
    Its forward pass with a fused head goes to the base of a reference that is an adapter itself, as
    it does for the policy; TRL takes every reference for a plain model.

    Args:
        trainers: TRL's module of the trainer.
    """
    config: Any = getattr(model, "peft_config", {}).get("default")
    given = getattr(config, "init_lora_weights", True)
    if not isinstance(given, bool):
        config.init_lora_weights = True
    fuse = trainers.add_fused_lm_head

    def on_base(target: Any, **options: Any) -> None:
        if isinstance(target, NoReference):
            return
        adapted = hasattr(target, "get_base_model")
        fuse(target.get_base_model() if adapted else target, **options)

    trainers.add_fused_lm_head = on_base
    if config is not None:
        model.add_adapter = lambda name, given: _added(model, name, given)
    try:
        yield
    finally:
        trainers.add_fused_lm_head = fuse
        vars(model).pop("add_adapter", None)
        if not isinstance(given, bool):
            config.init_lora_weights = given


def _added(model: Any, name: str, config: Any) -> None:
    """Add an adapter that is a copy of `default`.

    TRL copies the tensors with `.default.` in their names: not those of (IA)3, whose names end in
    `.default`, so that its reference would be the base, whatever the start.
    """
    type(model).add_adapter(model, name, config)
    own = dict(model.named_parameters())
    for place, parameter in own.items():
        parts = place.split(".")
        if "default" in parts:
            copied = own[".".join(name if part == "default" else part for part in parts)]
            copied.data = parameter.detach().clone()


def forget_reference(model: Any) -> None:
    """Take TRL's copy of the adapter, and its patched forward, off the model again."""
    base = model
    if hasattr(model, "peft_config"):
        base = model.get_base_model()
        if REFERENCE in model.peft_config:
            model.delete_adapter(REFERENCE)
            model.set_adapter("default")
    vars(base).pop("forward", None)


@contextlib.contextmanager
def start_as_reference(trainer_module: Any, model: Any) -> Iterator[None]:
    """Where TRL's module would load a reference from the model's folder, copy the model itself."""
    load = trainer_module.create_model_from_path
    trainer_module.create_model_from_path = lambda *_, **__: reference_model(model)
    try:
        yield
    finally:
        trainer_module.create_model_from_path = load
