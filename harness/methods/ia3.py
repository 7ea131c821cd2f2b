"""(IA)3: learned scales of keys, values and the MLP's inner activations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import model_validator

from harness.methods._experts import has_experts
from harness.methods._layers import excluded
from harness.methods._peft.shared import PeftMethod, task_of, unmatched_targets
from harness.models.files import ModelInfo
from harness.models.layers import names_of, targeted

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

_KEYS_AND_VALUES = (
    ("k_proj", "v_proj"), ("key", "value"), ("kv_b_proj",), ("qkv_proj",), ("query_key_value",),
    ("c_attn",), ("Wqkv",), ("att_proj",), ("kv_proj",),
)  # fmt: skip
"""Names of the layers whose output is scaled, in several architectures. Where queries, keys and
values are one layer, the queries are scaled too."""
_INNER = (
    ("down_proj",), ("dense_4h_to_h",), ("fc2",), ("fc_out",), ("mlp.c_proj",), ("ff_out",),
    ("wo",), ("w2",),
)  # fmt: skip
"""Names of the MLP's last layer, whose input is scaled."""


class Ia3(PeftMethod):
    """(IA)3: keys, values and the MLP's inner activations times learned vectors (Liu et al., 2022).

    Trainable parameters: d_out for each attention target and d_in for each MLP target (in a Llama,
    2 k + f a layer, with keys of size k and an MLP of size f). State: the base's N parameters at s
    bytes each, and 16 bytes for each trainable one (float32 weight, gradient, AdamW's two moments).
    """

    paper = "arXiv:2205.05638"
    traits = frozenset(
        {"packing", "gradient_checkpointing", "resume", "new_head", "merge", "swap", "copy"}
    )

    keeps_inputs = False

    target_modules: list[str] | None = None
    """Names of all layers that are scaled; default: chosen by the names of the model's layers."""
    feedforward_modules: list[str] | None = None
    """Those of `target_modules` whose input is scaled instead of their output."""

    @model_validator(mode="after")
    def _subset(self) -> Ia3:
        if (self.target_modules is None) != (self.feedforward_modules is None):
            raise ValueError("give target_modules and feedforward_modules together")
        extra = set(self.feedforward_modules or ()) - set(self.target_modules or ())
        if extra:
            raise ValueError(f"feedforward_modules {sorted(extra)} are not in target_modules")
        return self

    def lacks(self) -> dict[str, str]:
        return {"mixed_batch": "PEFT silently ignores adapter_names for (IA)3"}

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig:
        from peft import IA3Config

        outputs, inputs = self._targets(self.describe(base).layers())
        return IA3Config(
            task_type=task_of(base),
            target_modules=[*outputs, *inputs],
            feedforward_modules=list(inputs),
            exclude_modules=excluded(base, None),
            fan_in_fan_out=base.config.model_type == "gpt2",
            modules_to_save=list(also_train) or None,
        )

    def refuse_model(self, info: ModelInfo) -> str | None:
        layers = info.layers()
        if not layers:
            return None  # not fetched yet
        if self.target_modules is not None:
            for name in self.target_modules:
                if not any(targeted(layer, [name]) for layer in layers):
                    return unmatched_targets("target_modules", [name], layers)
            return None
        outputs, inputs = self._targets(layers)
        if outputs and inputs:
            return None
        what = "keys and values" if inputs else "the last layer of its MLP"
        why = " (its experts are stacked in one tensor)" if has_experts(info) and outputs else ""
        return (
            f"ia3 finds no layer for {what} by name{why}; it has {names_of(layers)}; set"
            " target_modules (keys, values, the MLP's last layer) and feedforward_modules (the"
            " latter; [] to leave the MLP alone)"
        )

    def count_trainable(self, info: ModelInfo) -> int | None:
        if not info.shapes:
            return None
        layers = info.layers()
        outputs, inputs = self._targets(layers)
        total = 0
        for name, layer in layers.items():
            if targeted(name, inputs):
                total += layer.d_in
            elif targeted(name, outputs):
                total += layer.d_out
        return total

    def kept_numbers(self, info: ModelInfo) -> int:
        """What is scaled, one number for each scale."""
        return self.count_trainable(info) or 0

    def _targets(self, layers: Iterable[str]) -> tuple[list[str], list[str]]:
        """Names of the layers whose output is scaled, and of those whose input is scaled; empty
        where no name is known."""
        if self.target_modules is not None and self.feedforward_modules is not None:
            inputs = self.feedforward_modules
            return [name for name in self.target_modules if name not in inputs], inputs
        names = list(layers)

        def first(choices: tuple[tuple[str, ...], ...]) -> list[str]:
            for choice in choices:
                if all(any(targeted(name, [end]) for name in names) for end in choice):
                    return list(choice)
            return []

        return first(_KEYS_AND_VALUES), first(_INNER)
