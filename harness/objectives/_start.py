"""The starting checkpoint as the reference of TRL's trainers, and nothing of it left afterwards."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator
from typing import Any

REFERENCE = "ref"
"""TRL's name for its copy of an adapter."""


def reference_model(model: Any) -> Any:
    """A frozen copy of a model without an adapter; None for an adapter, which TRL copies itself.

    Without it TRL would load the model's folder again: the base, where training starts from an SFT.
    """
    if hasattr(model, "peft_config"):
        return None
    return copy.deepcopy(model).requires_grad_(False).eval()


@contextlib.contextmanager
def adapter_copied_as_it_is(model: Any) -> Iterator[None]:
    """Let TRL add its copy without an initialisation that changes the base (PiSSA, OLoRA ...)."""
    config: Any = getattr(model, "peft_config", {}).get("default")
    given = getattr(config, "init_lora_weights", True)
    if isinstance(given, bool):
        yield
        return
    config.init_lora_weights = True
    try:
        yield
    finally:
        config.init_lora_weights = given


def forget_reference(model: Any) -> None:
    """Take TRL's copy of the adapter, and its patched forward, off the model again."""
    base = model
    if hasattr(model, "peft_config"):
        base = model.get_base_model()
        if REFERENCE in model.peft_config:
            model.delete_adapter(REFERENCE)
            model.set_adapter("default")
    vars(base).pop("forward", None)


def copy_whole_adapter(model: Any) -> None:
    """Make TRL's copy of an adapter equal to it, bit for bit.

    TRL copies what has `.default.` within its name; (IA)3's vectors end in `.default`. And PEFT
    makes the copy in float32 where the adapter on a 4-bit base is in bfloat16.
    """
    own = dict(model.named_parameters())
    for name, parameter in own.items():
        copied = own.get(re.sub(r"\.default(?=\.|$)", f".{REFERENCE}", name))
        if copied is not None and copied is not parameter:
            copied.data = parameter.detach().clone()


@contextlib.contextmanager
def start_as_reference(trainer_module: Any, model: Any) -> Iterator[None]:
    """Where TRL's module would load a reference from the model's folder, copy the model itself."""
    load = trainer_module.create_model_from_path
    trainer_module.create_model_from_path = lambda *_, **__: reference_model(model)
    try:
        yield
    finally:
        trainer_module.create_model_from_path = load
