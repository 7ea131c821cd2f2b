"""(IA)3: learned scales of keys, values and the MLP's inner activations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import model_validator

from harness.errors import ModelError
from harness.methods._peft import PeftMethod, matches, sides, task_of
from harness.model_files import ModelInfo

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

# Attention layers whose output is scaled, and MLP layers whose input is. Fused attention layers
# have the queries scaled too.
_LAYOUTS = (
    (("k_proj", "v_proj"), ("down_proj",)),
    (("query_key_value",), ("dense_4h_to_h",)),
    (("c_attn",), ("mlp.c_proj",)),
    (("k_proj", "v_proj"), ("fc2",)),
)


class Ia3(PeftMethod):
    """(IA)3: keys, values and the MLP's inner activations times learned vectors (Liu et al., 2022).

    Trainable parameters: d_out of each attention target and d_in of each MLP target (for a Llama,
    2 k + f a layer, with keys of size k and an MLP of size f). State: the base's N parameters at s
    bytes each, and 16 bytes for each trainable one (float32 weight, gradient, AdamW's two moments).
    """

    paper = "arXiv:2205.05638"
    traits = frozenset(
        {"packing", "gradient_checkpointing", "resume", "new_head", "merge", "swap", "copy"}
    )

    target_modules: list[str] | None = None
    """Names of all layers that are scaled; default: found by the model's layer names."""
    feedforward_modules: list[str] | None = None
    """Those of them whose input is scaled, not their output."""

    @model_validator(mode="after")
    def _subset(self) -> Ia3:
        if (self.target_modules is None) != (self.feedforward_modules is None):
            raise ValueError("give target_modules and feedforward_modules together")
        extra = set(self.feedforward_modules or ()) - set(self.target_modules or ())
        if extra:
            raise ValueError(f"feedforward_modules {sorted(extra)} are not in target_modules")
        return self

    def lacks(self) -> dict[str, str]:
        return {"mixed_batch": "PEFT ignores adapter_names for (IA)3 without a word"}

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig:
        from peft import IA3Config

        outputs, inputs = self._targets(self.describe(base).linear_shapes())
        return IA3Config(
            task_type=task_of(base),
            target_modules=[*outputs, *inputs],
            feedforward_modules=list(inputs),
            fan_in_fan_out=base.config.model_type == "gpt2",
            modules_to_save=list(also_train) or None,
        )

    def count_trainable(self, info: ModelInfo) -> int | None:
        if not info.shapes:
            return None
        layers = info.linear_shapes()
        outputs, inputs = self._targets(layers)
        total = 0
        for name, shape in layers.items():
            d_in, d_out = sides(info, shape)
            total += d_in if matches(name, inputs) else d_out if matches(name, outputs) else 0
        return total

    def _targets(self, layers: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Layers whose output is scaled, and layers whose input is.

        Raises:
            ModelError: no known layout fits the model's names.
        """
        if self.target_modules is not None and self.feedforward_modules is not None:
            inputs = tuple(self.feedforward_modules)
            return tuple(t for t in self.target_modules if t not in inputs), inputs
        names = list(layers)
        for outputs, inputs in _LAYOUTS:
            if all(any(matches(name, (t,)) for name in names) for t in (*outputs, *inputs)):
                return outputs, inputs
        found = sorted({name.removesuffix(".weight").rsplit(".", 1)[-1] for name in names})
        raise ModelError(
            f"ia3 does not know which layers of this model to scale (it has {', '.join(found)})",
            where="method ia3",
            fix="set target_modules (keys, values, the MLP's last layer) and feedforward_modules",
        )
