"""Bottleneck adapters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from harness.methods._peft.bottleneck_layouts import (
    Placement,
    bottleneck_size,
    residual_width,
    targets,
)
from harness.methods._peft.shared import PeftMethod, idle_targets, task_of, unmatched_targets
from harness.models.files import ModelInfo
from harness.models.layers import Layer, attention_heads, readable, targeted

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


_UNCLEAR = frozenset({"nemotron_h"})
"""Model types whose blocks have one mixer each: the test pass cannot find where it ends."""


class Bottleneck(PeftMethod):
    """Bottleneck adapters: h + s up(act(down(h))) on a sublayer's output h, with the base frozen.

    `houlsby` puts one adapter after the attention's output projection and one after the
    feed-forward's; `pfeiffer` uses the second only. Each comes before the residual is added
    (Houlsby et al., 2019, arXiv:1902.00751, section 2.1; Pfeiffer et al., 2021, arXiv:2005.00247).
    An adapter reads the output of the projection: in Gemma 2 and 3 it comes before the norm that
    follows the sublayer, and, unlike in AdapterHub's pfeiffer, its input never contains the
    residual. Up starts at zero, so training starts at the base exactly.

    Trainable parameters: 2 d b + b + d for each adapter, with d the hidden size and b = d //
    reduction_factor; houlsby has two adapters a layer and pfeiffer one. State: 16 bytes for each
    trainable parameter in float32 (weight, gradient, AdamW's two moments), beside the base's
    weights. Saved activations: 4 (d + 2 b) bytes for each token and adapter, or 4 (d + b) with relu
    or tanh; dropout keeps its mask too.
    """

    paper = "arXiv:1902.00751"
    traits = frozenset(
        {"packing", "gradient_checkpointing", "resume", "new_head", "swap", "copy", "mixed_batch"}
    )
    impl = "harness.methods._peft.bottleneck:BottleneckModel"
    keeps_inputs = False

    placement: Placement = "houlsby"
    """`houlsby`: two adapters a layer; `pfeiffer`: one, after the feed-forward."""
    reduction_factor: int = Field(16, gt=0)
    """The bottleneck's width is hidden_size // reduction_factor, at least 1."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    """The function between down and up; gelu is the exact form, without approximation."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout between the activation and up."""
    scaling: float = Field(1.0, gt=0)
    """Factor of the update (s above; He et al., 2022, arXiv:2110.04366)."""
    target_modules: str | list[str] | None = None
    """Names of the projections to adapt, or one regular expression over whole names; overrides
    `placement`."""

    _readable = field_validator("target_modules")(readable)

    def lacks(self) -> dict[str, str]:
        return {"merge": "an adapter with an activation inside cannot be added to the weights"}

    def config(self, base: PreTrainedModel, also_train: tuple[str, ...]) -> PeftConfig:
        config: PeftConfig = self.working_part().config_class(
            task_type=task_of(base), modules_to_save=list(also_train) or None, **self.model_dump()
        )
        return config

    def resume(
        self, base: PreTrainedModel, checkpoint: Path, also_train: tuple[str, ...] = ()
    ) -> Any:
        self.working_part()  # the import registers the type with PEFT
        return super().resume(base, checkpoint, also_train)

    def put_on(self, model: Any, checkpoint: Path, name: str = "default") -> Any:
        self.working_part()
        return super().put_on(model, checkpoint, name)

    def gates(self, model: Any) -> dict[str, str]:
        """Down gets no gradient until up has left 0, where it starts."""
        names = {name for name, p in model.named_parameters() if p.requires_grad}
        ups = {n: n.replace("bottleneck_down", "bottleneck_up") for n in names}
        gated = {n: f"{up.rpartition('.')[0]}.weight" for n, up in ups.items() if up != n}
        return {name: up for name, up in gated.items() if up in names}

    def describe(self, base: PreTrainedModel) -> ModelInfo:
        info = super().describe(base)
        if self.target_modules is not None:
            return info
        ends = self.working_part().ends(base, self.placement)
        return replace(info, adapted={name: Layer(0, 0) for name in ends})

    def refuse_model(self, info: ModelInfo) -> str | None:
        layers, names = info.layers(), self.target_modules
        if layers and names is None and attention_heads(info.config) is None:
            return (
                "its blocks do not consist of attention and a feed-forward; name projections whose"
                " output is added to the residual stream in target_modules"
            )
        mixes = any(n.endswith(".A_log") and len(s) > 1 for n, s in info.shapes.items())
        kind = info.config.get("model_type")
        if layers and names is None and (mixes or kind in _UNCLEAR):
            return (
                f"where the sublayers of the state-space blocks of '{kind}' end is not clear; name"
                " projections whose output is added to the residual stream in target_modules, as"
                " [o_proj, out_proj, down_proj]"
            )
        if not layers or names is None or any(targeted(layer, names) for layer in layers):
            return None
        return unmatched_targets("target_modules", names, layers)

    def remarks(self, info: ModelInfo) -> tuple[str, ...]:
        return idle_targets(self.target_modules, info)

    def count_trainable(self, info: ModelInfo) -> int | None:
        width = residual_width(info.config, info.shapes)
        if not info.shapes or width is None:
            return None
        size = bottleneck_size(width, self.reduction_factor)
        adapters = self._adapters(info)
        return None if adapters is None else adapters * (2 * width * size + size + width)

    def kept_numbers(self, info: ModelInfo) -> int:
        width = residual_width(info.config, info.shapes)
        if not info.shapes or width is None:
            return 0
        inner = bottleneck_size(width, self.reduction_factor)
        inner *= 1 if self.activation in ("relu", "tanh") else 2
        return (self._adapters(info) or 0) * (width + inner)

    def _adapters(self, info: ModelInfo) -> int | None:
        """Number of adapters; None where only the loaded model can tell."""
        if info.adapted is not None:
            return len(info.adapted)
        known = targets(info.config.get("model_type"), self.placement)
        names = self.target_modules or list(known)
        return sum(targeted(layer, names) for layer in info.layers()) if names else None
