"""The starting checkpoint as the reference model of TRL's trainers; removed afterwards."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch

REFERENCE = "ref"
"""TRL's name for its copy of an adapter."""


class NoReference(torch.nn.Identity):
    """A placeholder for TRL's reference model if none is needed (TRL replaces None by a copy)."""


def reference_model(model: Any) -> Any:
    """A frozen copy of the model in its present state; None for an adapter, which TRL copies.

    Without it TRL would load the model's folder again, which is the base even if the training
    starts from an SFT. A learned prompt is copied here, since a second prompt inside the model
    would replace the first (p-tuning), or PEFT refuses its name (prefix tuning). Frozen parameters
    are shared.
    """
    if hasattr(model, "peft_config") and not model.peft_config["default"].is_prompt_learning:
        return None
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, shared).requires_grad_(False).eval()


@contextlib.contextmanager
def as_it_is(model: Any, trainers: Any) -> Iterator[None]:
    """Context manager in which TRL's trainer is created without changing the starting checkpoint.

    TRL adds a copy of the adapter as its reference. Here this does not change the base (as PiSSA's
    and OLoRA's initialisation would), and copies every tensor with its dtype: on a 4-bit base that
    may be bfloat16, where PEFT would use float32. TRL also patches the forward pass of the
    reference with a fused head; here this patches the base model if the reference has an adapter,
    which TRL does for the policy only.

    Args:
        trainers: the TRL module that defines the trainer.
    """
    config: Any = getattr(model, "peft_config", {}).get("default")
    initialisation = getattr(config, "init_lora_weights", True)
    if not isinstance(initialisation, bool):
        config.init_lora_weights = True
    fuse = trainers.add_fused_lm_head

    def on_base(target: Any, **options: Any) -> None:
        if isinstance(target, NoReference):
            return
        adapted = hasattr(target, "get_base_model")
        fuse(target.get_base_model() if adapted else target, **options)

    trainers.add_fused_lm_head = on_base
    if config is not None:
        model.add_adapter = lambda name, adapter: _add_copy(model, name, adapter)
    try:
        yield
    finally:
        trainers.add_fused_lm_head = fuse
        vars(model).pop("add_adapter", None)
        if not isinstance(initialisation, bool):
            config.init_lora_weights = initialisation


def _add_copy(model: Any, name: str, config: Any) -> None:
    """Add an adapter that is a copy of `default`.

    TRL copies the tensors with `.default.` in their names. The names of (IA)3's tensors end in
    `.default`, so TRL's reference would be the base instead of the starting checkpoint.
    """
    type(model).add_adapter(model, name, config)
    parameters = dict(model.named_parameters())
    for place, parameter in parameters.items():
        parts = place.split(".")
        if "default" in parts:
            copied = parameters[".".join(name if part == "default" else part for part in parts)]
            copied.data = parameter.detach().clone()


def forget_reference(model: Any) -> None:
    """Remove TRL's copy of the adapter and its patched forward from the model."""
    base = model
    if hasattr(model, "peft_config"):
        base = model.get_base_model()
        if REFERENCE in model.peft_config:
            model.delete_adapter(REFERENCE)
            model.set_adapter("default")
    vars(base).pop("forward", None)


@contextlib.contextmanager
def start_as_reference(trainer_module: Any, model: Any) -> Iterator[None]:
    """Context manager in which TRL copies the model as its reference, instead of loading the
    model's folder."""
    load = trainer_module.create_model_from_path
    trainer_module.create_model_from_path = lambda *_, **__: reference_model(model)
    try:
        yield
    finally:
        trainer_module.create_model_from_path = load
