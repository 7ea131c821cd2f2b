"""Low-rank adapters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from harness.core.component import AddedLater
from harness.methods._experts import (
    adapted_layers,
    expected_layers,
    experts_refusal,
    experts_remarks,
)
from harness.methods._layers import excluded
from harness.methods._peft.shared import PeftMethod, idle_targets, task_of, unmatched_targets
from harness.models.files import ModelInfo
from harness.models.layers import Layer, readable, targeted

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

STATE_SPACE = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
_REBASING = ("pissa", "olora")


class Lora(PeftMethod):
    """LoRA: W + (alpha / r) B A, with the base frozen (Hu et al., 2021, arXiv:2106.09685).

    Options: rsLoRA's scaling alpha / sqrt(r) (Kalajdzievski, 2023, arXiv:2312.03732); DoRA's split
    into magnitude and direction (Liu et al., 2024, arXiv:2402.09353); PiSSA's initial values, where
    B A holds the r largest singular values of W and the base keeps the residual (Meng et al., 2024,
    arXiv:2404.02948). A PiSSA checkpoint loads onto the original base, which PEFT decomposes again
    in the same way.

    Trainable parameters: r (d_in + d_out) for each target, and d_out more with DoRA. State: the
    base's N parameters at s bytes each, and 16 bytes for each trainable one (float32 weight,
    gradient and AdamW's two moments), whatever the base's dtype.
    """

    VERSION = 1
    paper = "arXiv:2106.09685"
    traits = frozenset(
        {"packing", "gradient_checkpointing", "resume", "new_head", "merge", "swap", "copy",
         "mixed_batch"}
    )  # fmt: skip

    r: int = Field(16, gt=0)
    """Rank of the update."""
    lora_alpha: int = Field(32, gt=0)
    """The update is scaled by lora_alpha / r."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers that get an adapter, or one regular expression over whole names;
    `all-linear` means every linear layer except the head. Embeddings and the head may be named."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r)."""
    use_dora: bool = False
    """Also train the magnitude of each output's weights."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """The biases that also train."""
    init_lora_weights: Literal[True, "gaussian", "pissa", "olora"] = True
    """As in PEFT: true and `gaussian` start at the base exactly (B = 0); `pissa` and `olora` move
    a part of each weight into the adapter, by an exact SVD or a QR decomposition."""
    exclude_modules: Annotated[str | list[str] | None, AddedLater] = None
    """Layers among `target_modules` that get no adapter: names or one regular expression."""
    modules_to_save: Annotated[list[str] | None, AddedLater] = None
    """Names of modules that train in full and are saved with the adapter."""

    _readable = field_validator("target_modules", "exclude_modules")(readable)

    @field_validator("init_lora_weights", mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("pissa_niter"):
            raise ValueError(
                f"'{value}' is a randomised SVD: its checkpoint reloads onto another residual base"
                " and gives other logits; use the exact `pissa`"
            )
        if value == "eva":
            raise ValueError(
                "'eva' needs a pass over the data, which does not happen here, so PEFT would"
                " silently start as plain LoRA; choose true, gaussian, pissa or olora"
            )
        return value

    def lacks(self) -> dict[str, str]:
        reasons: dict[str, str] = {}
        if self.use_dora:
            reasons["mixed_batch"] = "PEFT cannot mix DoRA adapters in one batch"
        if self.bias != "none":
            reasons["swap"] = f"bias: {self.bias} trains the base's own biases"
        if self.init_lora_weights in _REBASING:
            reasons["swap"] = f"{self.init_lora_weights} changes the base under the adapter"
        if "swap" in reasons:
            reasons["mixed_batch"] = reasons["swap"]
        return reasons

    def exceptions(self) -> dict[str, str]:
        reasons: dict[str, str] = {}
        for trait, reason in self.lacks().items():
            if trait == "swap":
                reasons |= {"switched_off": reason, "base_unchanged": reason}
        return reasons

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig:
        from peft import LoraConfig

        fields = self.model_dump(include=set(Lora.model_fields))
        fields["exclude_modules"] = excluded(base, self.exclude_modules)
        fields["modules_to_save"] = [*also_train, *(self.modules_to_save or ())] or None
        return LoraConfig(
            task_type=task_of(base),
            fan_in_fan_out=base.config.model_type == "gpt2",
            **fields,
        )

    def gates(self, model: Any) -> dict[str, str]:
        """A and B gate each other: while one is 0, the other gets no gradient."""
        names = [name for name, p in model.named_parameters() if p.requires_grad]
        pairs = {name: _other(name) for name in names}
        return {name: other for name, other in pairs.items() if other != name and other in pairs}

    def describe(self, base: PreTrainedModel) -> ModelInfo:
        info = super().describe(base)
        return replace(info, adapted=adapted_layers(self, base, info))

    def refuse_model(self, info: ModelInfo) -> str | None:
        layers = info.layers()
        if not layers:
            return None  # not fetched yet
        targets = self._targets(info)
        if targets is not None and not targets:
            return unmatched_targets("target_modules", self.target_modules, layers)
        kind = info.config.get("model_type")
        if kind in STATE_SPACE and any(targeted(name, ["out_proj"]) for name in targets or ()):
            return (
                f"PEFT puts no adapter on the out_proj of '{kind}', as its kernels read the weights"
                " of this layer directly; set exclude_modules: [out_proj]"
            )
        tensors = [*info.shapes, *(f"{layer}.weight" for layer in layers)]
        for name in self.modules_to_save or ():
            if not any(saved_in_full(tensor, [name]) for tensor in tensors):
                return unmatched_targets("modules_to_save", [name], layers)
        return experts_refusal(self, info)

    def adapts_head(self, info: ModelInfo) -> bool:
        targets = self._targets(info) or {}
        return any(layer.kind == "head" for layer in targets.values())

    def remarks(self, info: ModelInfo) -> tuple[str, ...]:
        return (*experts_remarks(self, info), *idle_targets(self.target_modules, info))

    def count_trainable(self, info: ModelInfo) -> int | None:
        if not info.shapes or self.bias != "none":
            return None
        targets = self._targets(info)
        if targets is None:
            return None
        total = self._saved(info)
        for layer in targets.values():
            total += self.r * layer.copies * (layer.d_in + layer.d_out)
            total += layer.d_out if self.use_dora else 0
        return total

    def kept_numbers(self, info: ModelInfo) -> int:
        """What A gives, r numbers for each target; DoRA also keeps two outputs of each."""
        targets = (self._targets(info) or {}).values() if info.shapes else ()
        outputs = 2 if self.use_dora else 0
        return sum(self.r * layer.copies + outputs * layer.d_out for layer in targets)

    def _targets(self, info: ModelInfo) -> Mapping[str, Layer] | None:
        """The layers that get an adapter; None where only the loaded model can tell."""
        if info.adapted is not None:
            return info.adapted
        return expected_layers(self, info)

    def chosen(self, layers: Mapping[str, Layer]) -> dict[str, Layer]:
        """Filter a model's layers: those that get an adapter, without experts."""
        every = self.target_modules == "all-linear"
        return {
            name: layer
            for name, layer in layers.items()
            if targeted(name, ".*" if every else self.target_modules, self.exclude_modules)
            and (layer.kind == "linear" or not every)
            and not set(name.split(".")) & set(self.modules_to_save or ())
        }

    def _saved(self, info: ModelInfo) -> int:
        """Number of parameters of the modules that train in full; a tied head trains as a copy."""
        whole = self.modules_to_save or ()
        sizes = {name: math.prod(shape) for name, shape in info.shapes.items()}
        for name, layer in info.layers().items():
            sizes.setdefault(f"{name}.weight", layer.d_in * layer.d_out)
        return sum(size for name, size in sizes.items() if saved_in_full(name, whole))


def saved_in_full(tensor: str, modules: Iterable[str]) -> bool:
    """Whether a tensor belongs to one of PEFT's `modules_to_save`, which match ends of names."""
    parts = tensor.split(".")
    paths = [".".join(parts[:length]) for length in range(1, len(parts))]
    return any(path.endswith(module) for path in paths for module in modules)


def _other(name: str) -> str:
    """The name of the A that goes with a B, or of the B that goes with an A; any other name
    unchanged."""
    for a, b in ((".lora_A.", ".lora_B."), (".lora_embedding_A.", ".lora_embedding_B.")):
        if a in name or b in name:
            return name.replace(a, b) if a in name else name.replace(b, a)
    return name
